"""The assembled model: its outputs, its size, and what a score must not depend on."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax import lax
from tiny_model import random_params, tiny, views_of_noise

from driqa_jax.degradations import NAMES
from driqa_jax.models.driqa import build_model
from driqa_jax.models.layers import (
    FiLM,
    average_pool,
    deviation,
    dropout,
    grid_coordinates,
    masked_moments,
    sincos_positions,
)
from driqa_jax.models.ops import depthwise_conv
from driqa_jax.models.restoration import RestorationNet, pixel_shuffle, pixel_unshuffle
from driqa_jax.models.summary import multiply_adds, summarize

CONFIG = ml_collections.ConfigDict({"variant": "lite", "types": len(NAMES), "dropout": 0.1})
B, K, S = 2, 2, 64
ROWS, COLS = 64, 32  # of the canvas of 64x64 that hold picture


@pytest.fixture(scope="module")
def lite():
    """The lite model with random parameters: (whole, valid, tiles, boxes) -> (mos, out), compiled once."""
    model = build_model(CONFIG)
    params = random_params(model)
    return jax.jit(lambda *views: model.apply({"params": params}, *views))


def views(seed=0):
    whole, valid, tiles, boxes = views_of_noise(B, K, tile=S, seed=seed)
    return whole, np.array([[ROWS, COLS]] * B, np.int32), tiles, boxes


@pytest.fixture(scope="module")
def scored(lite):
    mos, out = lite(*views())
    return np.asarray(mos), {name: np.asarray(value) for name, value in out.items()}


def test_every_named_output_has_its_shape(scored):
    mos, out = scored
    width, tokens, cells, types = 128, K * (S // 32) ** 2, 2 * 2, len(NAMES)
    assert mos.shape == (B,) and mos.dtype == np.float32
    assert {name: value.shape for name, value in out.items()} == {
        **{name: (B, width) for name in ("d", "q", "d_tilde", "q_tilde", "rs_d", "rs_q")},
        **{name: (B, tokens, width) for name in ("D", "D_tilde", "restoration_tokens")},
        **{name: (B, cells, width) for name in ("Q", "Q_tilde")},
        **{name: (B, 2, 2) for name in ("patch_scores", "patch_weights", "patch_mask")},
        **{name: (B, types) for name in ("degradation_logits", "severity")},
        "restored": (B, K, S, S, 3),
        "contrast_projection": (B * K, width // 2),
        "mos_aux": (B,),
    }
    assert all(np.isfinite(value).all() for value in out.values())
    assert (out["severity"] >= 0).all() and (out["severity"] <= 1).all()


def test_mos_is_the_weighted_mean_of_the_patches_inside_the_image(scored):
    mos, out = scored
    np.testing.assert_array_equal(out["patch_mask"], np.tile([[[True, False], [True, False]]], (B, 1, 1)))
    weights = out["patch_weights"].astype(np.float64)
    assert (weights[out["patch_mask"]] > 0).all() and (weights[~out["patch_mask"]] == 0).all()
    mean = (weights * out["patch_scores"]).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    np.testing.assert_allclose(mos, mean, rtol=1e-5)


def test_a_score_does_not_depend_on_the_other_photos_of_the_batch(lite, scored):
    other = views(seed=1)
    mixed = [np.stack([mine[0], theirs[1]]) for mine, theirs in zip(views(), other, strict=True)]
    np.testing.assert_allclose(lite(*mixed)[0][0], scored[0][0], atol=1e-6)
    turned = [np.stack([theirs[1], mine[0]]) for mine, theirs in zip(views(), other, strict=True)]
    np.testing.assert_allclose(lite(*turned)[0][1], scored[0][0], atol=1e-6)
    assert abs(lite(*other)[0][0] - scored[0][0]) > 1e-3


def test_pixels_outside_the_image_change_no_score(lite, scored):
    whole, valid, tiles, boxes = views()
    for garbage in (0.0, 1.0, 1e4):
        filled = whole.copy()
        filled[:, ROWS:] = filled[:, :, COLS:] = garbage
        mos, out = lite(filled, valid, tiles, boxes)
        np.testing.assert_allclose(mos, scored[0], atol=1e-5)
        np.testing.assert_allclose(out["q_tilde"], scored[1]["q_tilde"], atol=1e-4)
    filled = whole.copy()
    filled[:, :ROWS, :COLS] *= 0.5
    assert np.abs(lite(filled, valid, tiles, boxes)[0] - scored[0]).max() > 1e-3


def test_another_canvas_gives_the_same_score():
    model = tiny(CONFIG)
    params = random_params(model)
    score = jax.jit(lambda *views: model.apply({"params": params}, *views)[0])
    whole, valid, tiles, boxes = views()
    larger = np.ones((B, 96, 128, 3), np.float32)
    larger[:, :ROWS, :COLS] = whole[:, :ROWS, :COLS]
    snug = np.ascontiguousarray(whole[:, :ROWS, :COLS])
    expected = score(snug, valid, tiles, boxes)
    np.testing.assert_allclose(score(larger, valid, tiles, boxes), expected, atol=1e-5)


def test_lite_keeps_its_budget_and_the_parts_add_up():
    parts = {part.name: part for part in summarize("lite", measure=False)}
    whole = parts.pop("all")
    assert whole.parameters <= 7e6 and whole.multiply_adds <= 1.5e9, whole
    # What is no part of its own: two projections of 128 to 128 for the RS loss.
    projections = 2 * (128 * 128 + 128)
    assert sum(part.parameters for part in parts.values()) + projections == whole.parameters
    counted = sum(part.multiply_adds for part in parts.values()) + 2 * 128 * 128
    assert counted == whole.multiply_adds
    assert min(part.multiply_adds for part in parts.values()) > 0


def conv(x, w, groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=layout, feature_group_count=groups)


IMAGE = np.zeros((2, 8, 8, 6), np.float32)
COUNTABLE = {
    "dense": (lambda x: x @ np.zeros((6, 5), np.float32), 2 * 8 * 8 * 6 * 5),
    "conv": (lambda x: conv(x, np.zeros((3, 3, 6, 10), np.float32)), 2 * 4 * 4 * 10 * (3 * 3 * 6)),
    "grouped": (lambda x: conv(x, np.zeros((3, 3, 2, 9), np.float32), 3), 2 * 4 * 4 * 9 * (3 * 3 * 2)),
    "depthwise": (lambda x: depthwise_conv(x, np.zeros((5, 5, 6), np.float32), 2), 2 * 4 * 4 * 6 * 25),
    "attention": (lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x), 2 * 8 * 8 * 8 * 6),
    "within jit": (jax.jit(lambda x: x @ np.zeros((6, 5), np.float32)), 2 * 8 * 8 * 6 * 5),
    "scan": (lambda x: lax.map(lambda y: y @ np.zeros((6, 5), np.float32), x), 2 * 8 * 8 * 6 * 5),
    "cond": (
        lambda x: lax.cond(x[0, 0, 0, 0] > 0, lambda: x @ np.zeros((6, 6), np.float32), lambda: x),
        4608,
    ),
    "elementwise": (lambda x: jnp.tanh(x) * x + 1, 0),
}


@pytest.mark.parametrize("name", COUNTABLE)
def test_multiply_adds_equal_a_count_by_hand(name):
    function, by_hand = COUNTABLE[name]
    assert multiply_adds(function, IMAGE) == by_hand


def test_multiply_adds_refuses_a_loop_of_unknown_length():
    with pytest.raises(ValueError, match="while loop"):
        multiply_adds(lambda x: lax.while_loop(lambda y: y.sum() < 1, lambda y: y @ y, x), np.zeros((3, 3)))


def test_restoration_is_the_identity_at_the_start():
    net = RestorationNet(width=8, encoder=(1, 1), middle=1)
    images = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    d = np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32)

    @jax.jit
    def fresh(images, d):
        return net.init_with_output(jax.random.key(0), images, d)[0]

    restored, levels = fresh(images, d)
    np.testing.assert_array_equal(restored, images)
    assert [level.shape[1] for level in levels] == [4, 8, 16, 16] and not np.asarray(levels[-1]).any()


def test_film_is_the_identity_at_the_start_and_scales_and_shifts_after():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    condition = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    out, variables = FiLM().init_with_output(jax.random.key(0), x, condition)
    np.testing.assert_array_equal(out, x)
    kernel = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)
    variables["params"]["film"]["kernel"] = kernel
    gamma, beta = np.split(condition @ kernel, 2, axis=-1)
    expected = x * (1 + gamma[:, None, None]) + beta[:, None, None]
    np.testing.assert_allclose(FiLM().apply(variables, x, condition), expected, rtol=1e-5, atol=1e-6)


def test_pixel_shuffle_undoes_pixel_unshuffle():
    x = np.arange(2 * 6 * 8 * 3, dtype=np.float32).reshape(2, 6, 8, 3)
    folded = pixel_unshuffle(x, 2)
    assert folded.shape == (2, 3, 4, 12)
    np.testing.assert_array_equal(folded[0, 1, 2], x[0, 2:4, 4:6].ravel())
    np.testing.assert_array_equal(pixel_shuffle(folded, 2), x)


def test_average_pool_is_the_mean_of_blocks():
    x = np.random.default_rng(0).random((1, 4, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(average_pool(x, 2)[0, 1, 2], x[0, 2:4, 4:6].mean(axis=(0, 1)), rtol=1e-6)


def test_deviation_is_numpys_with_a_finite_gradient_for_constant_features():
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    x[0, :, 1] = 0.25
    np.testing.assert_allclose(deviation(x), x.std(axis=1), rtol=1e-6)
    gradient = np.asarray(jax.grad(lambda x: deviation(x).sum())(x))
    expected = (x - x.mean(axis=1, keepdims=True)) / (5 * np.maximum(x.std(axis=1, keepdims=True), 1e-6))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert not np.asarray(jax.grad(lambda x: deviation(x).sum())(x[:, :1])).any()


def test_masked_moments_are_numpys_over_the_valid_pixels():
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype(np.float32)
    mask = np.zeros((2, 4, 6, 1), bool)
    mask[0, :2, :5] = mask[1, :4, :1] = True
    mean, spread = masked_moments(x, mask)
    for picture, inside in enumerate((x[0, :2, :5], x[1, :4, :1])):
        np.testing.assert_allclose(mean[picture], inside.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(spread[picture], inside.std(axis=(0, 1)), rtol=1e-4)
    flat = jax.grad(lambda x: masked_moments(x, mask)[1].sum())(np.ones_like(x))
    assert np.isfinite(np.asarray(flat)).all()


def test_a_place_has_the_same_position_in_every_box():
    # The second cell of a row of four over [0, 1] is centered at 3/8, as is the only cell of [1/4, 1/2].
    wide = grid_coordinates(jnp.array([[0.0, 0.0, 1.0, 1.0]]), 4, 4)
    narrow = grid_coordinates(jnp.array([[0.25, 0.25, 0.5, 0.5]]), 1, 1)
    np.testing.assert_allclose(narrow[0, 0], [0.375, 0.375])
    seen, again = sincos_positions(wide, 32), sincos_positions(narrow, 32)
    np.testing.assert_allclose(seen[0, 4 + 1], again[0, 0], atol=1e-6)
    distances = np.linalg.norm(np.asarray(seen[0]) - np.asarray(again[0]), axis=-1)
    assert (np.delete(distances, 4 + 1) > 0.5).all()
    # Rows and columns are told apart: the transposed place is another.
    np.testing.assert_allclose(wide[0, 1], [0.125, 0.375])
    assert distances[1] > 0.5 and not np.allclose(seen[0, 1], seen[0, 4])


def test_dropout_of_an_example_depends_on_its_key_alone():
    x = np.random.default_rng(0).random((8, 4000)).astype(np.float32) + 1
    keys = jax.random.split(jax.random.key(0), 8)
    out = np.asarray(dropout(x, keys, 0.25))
    kept = out != 0
    np.testing.assert_allclose(out[kept], x[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.02 and not (kept[0] == kept[1]).all()
    np.testing.assert_array_equal(dropout(x[::-1], keys[::-1], 0.25), out[::-1])
    np.testing.assert_array_equal(dropout(x[3:4], keys[3:4], 0.25), out[3:4])
    np.testing.assert_array_equal(np.asarray(dropout(x + 1, keys, 0.25)) != 0, kept)
    for untouched in (dropout(x, None, 0.25), dropout(x, keys, 0.0)):
        np.testing.assert_array_equal(untouched, x)


def test_an_unknown_variant_is_refused_and_the_variants_are_listed():
    with pytest.raises(ValueError, match="must be one of b, lite, s, got 'large'"):
        build_model(ml_collections.ConfigDict({"variant": "large", "dropout": 0.0}))
