"""Chains: their distribution, and that an image depends only on its key, chain and photo."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from skimage import data

from driqa_jax.degradations import (
    CLEAN,
    DEGRADATIONS,
    NAMES,
    RECIPES,
    Chain,
    Mixture,
    Recipe,
    apply,
    apply_chains,
    labels,
    sample_chains,
)
from driqa_jax.degradations.recipes import KADID
from driqa_jax.errors import UserError
from driqa_jax.train.config import default
from driqa_jax.train.stages.pretrain import recipe

KEY = jax.random.key(3)
apply_jit = jax.jit(apply_chains, static_argnames="eight_bit")


def crops(count: int = 8, side: int = 48) -> np.ndarray:
    photo = data.astronaut()
    places = np.random.default_rng(0).integers(0, 512 - side, (count, 2))
    return np.stack([photo[y : y + side, x : x + side] for y, x in places]).astype(np.float32) / 255


def one_of_each() -> Chain:
    """As many chains as types, each a single step at severity 0.6, with room for two."""
    types = jnp.stack([jnp.arange(len(NAMES)), jnp.full(len(NAMES), CLEAN)], axis=1).astype(jnp.int32)
    return Chain(types, jnp.where(types == CLEAN, 0.0, 0.6).astype(jnp.float32))


def test_draws_follow_the_recipe():
    recipe = Recipe(p_clean=0.25, step_weights=(0.5, 0.0, 0.25, 0.25), severity_low=0.2, severity_high=0.9)
    chains = jax.jit(lambda key: sample_chains(key, recipe, 4000))(KEY)
    types, severities = np.asarray(chains.types), np.asarray(chains.severities)
    assert types.shape == severities.shape == (4000, 4)
    used = types != CLEAN
    # Steps stand first, empty places behind them at severity 0.
    assert (np.diff(used.astype(int), axis=1) <= 0).all()
    assert (severities[~used] == 0).all()
    assert severities[used].min() >= 0.2 and severities[used].max() <= 0.9
    groups = np.array([*[sorted({e.group for e in DEGRADATIONS}).index(e.group) for e in DEGRADATIONS], -1])
    for row in groups[types]:
        row = row[row >= 0]
        assert len(set(row)) == len(row)
    counts = np.bincount(used.sum(axis=1), minlength=5) / 4000
    np.testing.assert_allclose(counts, [0.25, 0.375, 0, 0.1875, 0.1875], atol=4 * (0.25 / 4000) ** 0.5)
    # Order is drawn: noise comes both before and after blur.
    noise, blur = groups[NAMES.index("white_noise")], groups[NAMES.index("gaussian_blur")]
    before = [list(r).index(noise) < list(r).index(blur) for r in groups[types].tolist() if {noise, blur} <= set(r)]
    assert 0.35 < np.mean(before) < 0.65
    assert set(np.unique(types[used])) == set(range(len(NAMES)))


def test_names_and_config_narrow_the_draw():
    config = ml_collections.ConfigDict({"names": ("jpeg", "lens_blur"), "max_steps": 2, "step_weights": (0.0, 1.0)})
    recipe = Recipe.from_config(config)
    types = np.asarray(jax.jit(lambda key: sample_chains(key, recipe, 64).types)(KEY))
    assert set(np.unique(types)) <= {CLEAN, NAMES.index("jpeg"), NAMES.index("lens_blur")}
    assert set((types != CLEAN).sum(axis=1)) == {0, 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_step": 2}, "did you mean 'max_steps'"),
        ({"name": "kadit"}, "did you mean 'kadid'"),
        ({"mixture": (("kadid", 0.5), ("chain", 0.5))}, "did you mean 'chains'"),
        ({"mixture": (("kadid", -0.5), ("chains", 0.5))}, "non-negative"),
        ({"name": "mixed", "p_clean": 2.0}, "p_clean"),
        ({"p_clean": "often"}, "wrong type"),
        ({"weights": {"white_nose": 2}}, "did you mean 'white_noise'"),
        ({"weights": {"jpeg": -1.0}}, "recipe.weights"),
        ({"names": ("jpeg",), "weights": {"jpeg": 0}}, "no type to draw"),
        ({"sequence": ((1.5, ("jpeg",)),)}, r"sequence\[0\]"),
        ({"name": "second_order", "names": ("pixelate",)}, "recipe.sequence"),
        ({"names": ("jpg",)}, "did you mean 'jpeg'"),
        ({"names": ("jpeg",)}, "1 groups"),
        ({"names": ()}, "recipe.names must be"),
        ({"step_weights": (1.0,)}, "step_weights"),
        ({"p_clean": 1.5}, "p_clean"),
        ({"severity_low": 0.9, "severity_high": 0.5}, "severity_low"),
    ],
)
def test_bad_recipes_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Recipe.from_config(change)


@functools.cache
def drawn(recipe: Recipe | Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Types and severities of 4000 chains."""
    chains = jax.jit(lambda key: sample_chains(key, recipe, 4000))(KEY)
    return np.asarray(chains.types), np.asarray(chains.severities)


def test_types_are_drawn_in_proportion_to_their_weights():
    weights = {"white_noise": 3, "impulse_noise": 0, "jpeg": 2}
    names = ("white_noise", "impulse_noise", "sensor_noise", "jpeg")
    types, _ = drawn(Recipe(max_steps=1, step_weights=(1.0,), p_clean=0.0, names=names, weights=weights))
    share = [np.mean(types == NAMES.index(name)) for name in names]
    np.testing.assert_allclose(share, [3 / 6, 0, 1 / 6, 2 / 6], atol=0.03)


def test_kadid_draws_its_types_at_its_levels():
    types, severities = drawn(RECIPES["kadid"])
    kadid = [entry for entry in DEGRADATIONS if entry.name in KADID]
    assert all(entry in kadid for entry in DEGRADATIONS if entry.kadid_levels)
    assert types.shape == (4000, 1) and set(types[:, 0]) == {NAMES.index(entry.name) for entry in kadid}
    for entry in kadid:
        found = severities[types == NAMES.index(entry.name)]
        if entry.kadid_levels:
            assert set(found) == set(np.float32(entry.kadid_levels)), entry.name
        else:
            assert 0.1 <= found.min() < found.max() <= 1.0 and len(set(found)) > 5


def test_second_order_keeps_its_sequence():
    second = RECIPES["second_order"]
    types, severities = drawn(second)
    used = types != CLEAN
    assert types.shape == (4000, len(second.sequence))
    assert (np.diff(used.astype(int), axis=1) <= 0).all() and (severities[~used] == 0).all()
    slots = [{NAMES.index(name) for name in names} for _, names in second.sequence]
    for row in np.unique(types, axis=0):
        places = iter(slots)
        # Each step finds its slot behind the slot of the step before.
        assert all(any(kind in slot for slot in places) for kind in row[row != CLEAN])
    jpegs = (types == NAMES.index("jpeg")).sum(axis=1)
    p_both = 0.9 * 0.9 * (1 - second.p_clean)
    assert abs(np.mean(jpegs == 2) - p_both) < 0.03
    assert severities[used].max() <= second.severity_high


def test_a_mixture_draws_each_part_with_its_probability():
    mixture = Recipe.from_config({"mixture": (("single", 0.6), ("chains", 0.3), ("second_order", 0.1))})
    assert isinstance(mixture, Mixture) and mixture.max_steps == len(RECIPES["second_order"].sequence)
    types, _ = drawn(mixture)
    steps = (types != CLEAN).sum(axis=1)
    alone = (drawn(RECIPES["second_order"])[0] != CLEAN).sum(axis=1)
    assert abs(np.mean(steps == 0) - 0.1) < 0.02
    assert abs(np.mean(steps > 4) - 0.1 * np.mean(alone > 4)) < 0.02  # second order alone has more than four
    assert abs(np.mean(steps == 1) - (0.9 * (0.6 + 0.3 * 0.4) + 0.1 * np.mean(alone == 1))) < 0.03
    nested = Mixture(((mixture, 1.0), (RECIPES["kadid"], 1.0)))
    np.testing.assert_allclose([p for _, p in nested.parts], [0.6, 0.3, 0.1, 1.0])


def test_a_configuration_names_a_recipe_and_changes_its_fields():
    config = default()
    assert recipe(config) == RECIPES["pairs"]
    config.pretrain.recipe.name = "kadid"
    assert recipe(config) == RECIPES["kadid"]
    config.pretrain.recipe.levels = False
    config.pretrain.recipe.weights = (("white_noise", 3.0),)
    assert recipe(config).weights == (("white_noise", 3.0),) and not recipe(config).levels
    config.pretrain.recipe.mixture = (("pairs", 1.0), ("second_order", 1.0))
    assert {part.weights for part, _ in recipe(config).parts} == {(("white_noise", 3.0),)}
    config.pretrain.recipe.p_clean = 3.0
    with pytest.raises(UserError, match=r"config.pretrain.recipe.p_clean must be in \[0, 1\], got 3.0"):
        recipe(config)


def test_a_chain_is_its_steps_in_order():
    photos = crops()
    names = ("gaussian_blur", "jpeg")
    forward = jnp.asarray([NAMES.index(n) for n in names], jnp.int32)
    chains = Chain(
        one_of_each().types.at[0].set(forward).at[1].set(forward[::-1]),
        jnp.full((len(NAMES), 2), 0.6, jnp.float32),
    )
    out = np.asarray(apply_jit(KEY, photos, chains, jnp.arange(8), eight_bit=False))
    for row, order in zip(out[:2], (names, names[::-1]), strict=True):
        expected = jnp.asarray(photos[0])
        for name in order:
            expected = jax.jit(apply, static_argnums=0)(name, KEY, expected, 0.6)
        # A coefficient on a rounding edge may fall either way in another compilation.
        assert np.sqrt(((row[0] - np.asarray(expected)) ** 2).mean()) < 2e-3
    assert np.abs(out[0] - out[1]).max() > 0.05


def test_a_clean_chain_is_the_identity():
    photos = crops()
    chains = one_of_each()
    chains = Chain(chains.types.at[0].set(CLEAN), chains.severities.at[0].set(0.0))
    out = np.asarray(apply_jit(KEY, photos, chains, jnp.arange(8), eight_bit=False))
    np.testing.assert_array_equal(out[0], photos)
    # One of the crops is flat and black, where no displacement and no scale of colors shows.
    assert ((np.abs(out[1:] - photos).max(axis=(2, 3, 4)) > 0.02).mean(axis=1) >= 0.75).all()


def test_only_the_named_types_are_applied():
    names = ("brighten", "darken")
    some = jax.jit(functools.partial(apply_chains, names=names, eight_bit=False))
    out = np.asarray(some(KEY, crops(2), one_of_each(), jnp.arange(2)))
    for place, name in enumerate(NAMES):
        expected = apply(name, KEY, jnp.asarray(crops(2)[0]), 0.6) if name in names else crops(2)[0]
        np.testing.assert_allclose(out[place, 0], expected, atol=1e-6)
    recipe = Recipe(names=names, max_steps=1, step_weights=(1.0,), weights={"darken": 0.0})
    assert recipe.drawn() == ("brighten",) and RECIPES["kadid"].drawn() == KADID
    assert Mixture(((recipe, 1.0), (RECIPES["second_order"], 1.0))).drawn() == tuple(
        name for name in NAMES if name == "brighten" or name in RECIPES["second_order"].drawn()
    )
    assert "haze" not in RECIPES["second_order"].drawn()


def test_photos_of_a_chain_share_the_drawn_angle_and_not_the_noise():
    photos = np.broadcast_to(crops(1), (8, 48, 48, 3))
    out = np.asarray(apply_jit(KEY, photos, one_of_each(), jnp.arange(8), eight_bit=False))
    for entry, pictures in zip(DEGRADATIONS, out, strict=True):
        differ = np.abs(pictures[0] - pictures[1]).max() > 0.02
        draws_pixels = entry.group in ("noise", "spatial", "damage") or entry.name in ("denoise", "low_light")
        assert differ == draws_pixels, entry.name
    types = one_of_each().types.at[:, 0].set(NAMES.index("white_noise"))
    noisy = apply_jit(KEY, photos, Chain(types, one_of_each().severities), jnp.arange(8), eight_bit=False)
    assert np.abs(np.asarray(noisy[0] - noisy[1])).max() > 0.05


def test_eight_devices_give_the_images_of_one_device():
    photos, ids, chains = crops(), jnp.arange(100, 108), one_of_each()
    whole = np.asarray(apply_jit(KEY, photos, chains, ids, eight_bit=False))
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = PartitionSpec("data")
    sliced = jax.jit(
        jax.shard_map(
            lambda photos, ids, chains: apply_chains(KEY, photos, chains, ids, eight_bit=False),
            mesh=mesh,
            in_specs=(rows, rows, PartitionSpec()),
            out_specs=PartitionSpec(None, "data"),
        )
    )
    parts = np.asarray(sliced(photos, ids, chains))
    assert_same_images(parts, whole)
    moved = np.asarray(apply_jit(KEY, photos[::-1], chains, ids[::-1], eight_bit=False))
    assert_same_images(moved[:, ::-1], whole)


def assert_same_images(images, expected):
    """Equal to 1e-5, but for a few values that a codec rounds: each program sums in another order."""
    difference = np.abs(images - expected)
    assert (difference > 1e-5).mean() < 1e-5 and difference.max() < 0.02


def test_new_chains_do_not_recompile_and_images_have_eight_bits():
    traces = []

    @jax.jit
    def run(key, photos, ids):
        traces.append(None)
        recipe_key, pixel_key = jax.random.split(key)
        chains = sample_chains(recipe_key, RECIPES["mixed"], 3)
        return apply_chains(pixel_key, photos, chains, ids), labels(chains)

    photos = crops(2, side=32)
    outs = [run(jax.random.key(seed), photos, jnp.arange(2)) for seed in range(4)]
    assert len(traces) == 1
    for pictures, _ in outs:
        np.testing.assert_allclose(pictures * 255, np.round(pictures * 255), atol=1e-3)
    assert np.abs(np.asarray(outs[0][0] - outs[1][0])).max() > 0.02
    again = run(jax.random.key(0), photos, jnp.arange(2))
    np.testing.assert_array_equal(again[0], outs[0][0])


def test_labels_hold_the_types_and_severities_of_each_chain():
    jpeg, blur = NAMES.index("jpeg"), NAMES.index("lens_blur")
    chains = Chain(
        jnp.asarray([[jpeg, blur], [CLEAN, CLEAN]], jnp.int32),
        jnp.asarray([[0.3, 0.8], [0.0, 0.0]], jnp.float32),
    )
    present, severity = map(np.asarray, labels(chains))
    expected = np.zeros((2, len(NAMES)), np.float32)
    expected[0, [jpeg, blur]] = [0.3, 0.8]
    np.testing.assert_array_equal(severity, expected)
    np.testing.assert_array_equal(present, expected > 0)


def test_wrong_shapes_and_dtypes_are_refused():
    chains, photos = one_of_each(), jnp.zeros((2, 48, 48, 3))
    with pytest.raises(ValueError, match="one id per photo"):
        apply_chains(KEY, photos, chains, jnp.arange(3))
    with pytest.raises(ValueError, match=r"\(K, S\)"):
        apply_chains(KEY, photos, Chain(chains.types[0], chains.severities[0]), jnp.arange(2))
    with pytest.raises(ValueError, match="sides of at least 32"):
        apply_chains(KEY, photos[:, :16], chains, jnp.arange(2))
    with pytest.raises(TypeError, match="uint8"):
        apply_chains(KEY, photos.astype(jnp.uint8), chains, jnp.arange(2))
