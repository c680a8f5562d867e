"""A score depends on the picture alone; a broken one stops nobody; order is kept; memory is bounded."""

import io
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_model import METADATA, SIZES, FakeModel, fake_params, fake_scorer, picture, pictures
from PIL import Image

from driqa_jax import compile_cache
from driqa_jax.checkpoints.weights import WeightsError, save_weights
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference import functional
from driqa_jax.inference.effort import EFFORTS
from driqa_jax.inference.scorer import Scorer, load
from driqa_jax.inference.stream import predictions_in_order, views_in_order
from driqa_jax.reports.inputs import list_pictures


@pytest.fixture(scope="module")
def scorer():
    return fake_scorer()


@pytest.fixture(scope="module")
def alone(scorer):
    """Each picture's score when it is scored by itself."""
    return [scorer(image) for image in pictures()]


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def test_a_score_is_mos_times_100_calibrated_and_rounded(scorer, alone):
    image = pictures()[1]
    view = make_view(image, ViewRule())
    batch = {key: jnp.asarray(value)[None] for key, value in view.items()}
    mos, _ = FakeModel().apply(
        {"params": fake_params()},
        batch["whole"] / 255.0,
        batch["valid"],
        batch["tiles"] / 255.0,
        batch["tile_boxes"],
    )
    expected = 100 * (-0.1 + 1.2 / (1 + np.exp(-(float(mos[0]) - 0.5) / 0.3)))
    assert alone[1] == pytest.approx(expected, abs=0.006)
    assert isinstance(alone[1], float) and alone[1] == round(alone[1], 2)
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_score_is_independent_of_order_and_batch_size(alone, batch_size):
    scorer = fake_scorer(batch_size=batch_size, workers=3)
    images = pictures()
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 2, 2, 0, 5], [4]):
        np.testing.assert_array_equal(scorer([images[i] for i in order]), [alone[i] for i in order])


def test_each_canvas_is_compiled_once(scorer, alone):
    scorer = fake_scorer(batch_size=4)
    for count in (1, 2, 6):
        scorer(pictures()[:count])
    assert len(scorer.executor.program._compiled) == len(
        {make_view(image, scorer.rule)["whole"].shape for image in pictures()}
    )


def test_equal_pixels_score_the_same_from_any_source(scorer, alone, tmp_path):
    image = pictures()[0]
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image))
    same = [path, str(path), encoded(image), Image.fromarray(image), image, image / 255.0]
    np.testing.assert_array_equal(scorer(same), [alone[0]] * len(same))
    assert scorer(io.BytesIO(encoded(image))) == scorer(jnp.asarray(image)) == alone[0]
    np.testing.assert_array_equal(scorer(np.stack([image, image])), [alone[0]] * 2)
    assert scorer([]).shape == (0,)


def test_broken_items_have_errors_and_the_others_keep_their_order(scorer, alone, tmp_path):
    good = encoded(pictures()[0])
    files = {
        "a.png": good,
        "b.png": b"",
        "c.png": good[: len(good) // 2],
        "d.png": b"no picture at all",
        "e.png": encoded(pictures()[1]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files] + [str(tmp_path / "absent.png")]
    results = list(scorer.stream(paths))
    assert [result.path for result in results] == paths
    assert [result.score for result in results] == [alone[0], None, None, None, alone[1], None]
    assert [result.error is None for result in results] == [True, False, False, False, True, False]
    assert "empty" in results[1].error and "truncated" in results[2].error and "No such file" in results[5].error
    assert all(str(tmp_path) not in (result.error or "") for result in results)
    with pytest.raises(UnreadableImage, match=r"b\.png"):
        scorer(paths)
    assert next(scorer.stream([np.zeros((4, 4, 5), np.uint8)])).error


def test_too_many_pixels_are_refused(alone):
    small = fake_scorer(max_pixels=1000)
    result = next(small.stream([encoded(pictures()[0])], names=["big"]))
    assert result.path == "big" and result.score is None and "megapixels" in result.error


def test_a_non_finite_score_is_an_error_of_its_image():
    params = fake_params()
    params["out"]["kernel"][:] = np.nan
    (result,) = Scorer(FakeModel(), params, METADATA).stream([pictures()[0]], names=["p"])
    assert result.score is None and result.error == "the model gave nan"


def test_options_out_of_range_are_refused():
    for options in ({"batch_size": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            fake_scorer(**options)


def test_an_endless_input_is_read_only_as_far_as_needed(scorer):
    taken = []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield pictures()[3]

    stream = scorer.stream(endless())
    results = [next(stream) for _ in range(3)]
    stream.close()
    assert [result.path for result in results] == ["item 0", "item 1", "item 2"]
    assert len(taken) <= 3 + scorer.workers + 4


def test_decoding_ahead_is_bounded():
    busy, most, lock = 0, 0, threading.Lock()

    def see(name, source):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.005)
        with lock:
            busy -= 1
        if source % 7 == 3:
            raise ValueError(name)
        return {"whole": np.zeros((2, 2 + source % 3)), "value": np.float32(source)}

    def run(batch):
        assert len(batch["value"]) == 4 and len({batch["whole"].shape}) == 1
        return batch["value"] * 2

    views = views_in_order(((str(i), i) for i in range(60)), see, workers=2)
    outcomes = list(predictions_in_order(views, run, batch_size=4))
    assert [name for name, _ in outcomes] == [str(i) for i in range(60)]
    for i, (_, outcome) in enumerate(outcomes):
        assert isinstance(outcome, ValueError) if i % 7 == 3 else outcome == 2 * i
    assert most == 2


@pytest.mark.parametrize(
    "rule",
    [
        ViewRule(),
        ViewRule(enlarging="hamming"),
        ViewRule(tiles=9),
        ViewRule(short=96, tile=64, tiles=1, canvases=((64, 64),), kind="crop"),
    ],
    ids=["dual", "hamming", "nine tiles", "crop"],
)
def test_functional_views_are_those_of_the_host(rule):
    views_of = jax.jit(lambda images: functional.views_of(images, rule))
    for height, width in (*SIZES[:4], (640, 640), (300, 610)):
        image = picture(height, width, 7)
        host = make_view(image, rule)
        device = {key: np.asarray(value[0]) for key, value in views_of(image[None] / np.float32(255)).items()}
        assert {key: value.shape for key, value in device.items()} == {key: value.shape for key, value in host.items()}
        for key in ("valid", "tile_boxes"):
            np.testing.assert_array_equal(device[key], host[key])
        for key in ("whole", "tiles"):
            levels = device[key] * 255
            np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
            apart = np.abs(np.rint(levels) - host[key])
            # Pillow's weights are fixed-point numbers, so it breaks ties between two levels in another way.
            assert apart.max() <= 1 and (apart > 0).mean() < 0.04
        if rule.kind == "dual":
            np.testing.assert_array_equal(np.rint(device["tiles"] * 255), host["tiles"])


def test_rounding_passes_the_gradient_through(monkeypatch):
    image = jnp.asarray(picture(40, 50, 1))[None] / 255.0
    rule = ViewRule(short=32, long=64, tile=32, canvases=((32, 64),))

    def slope():
        return jax.grad(lambda x: (functional.views_of(x, rule)["whole"] ** 2).sum())(image)

    rounded = slope()
    monkeypatch.setattr(functional, "_rounded", lambda pixels: pixels)
    np.testing.assert_allclose(rounded, slope(), atol=0.02 * float(jnp.abs(rounded).max()))
    assert float(jnp.abs(rounded).max()) > 0.1


def test_a_canvas_that_does_not_hold_a_crop_is_refused_on_the_device_too():
    rule = ViewRule(short=96, tile=64, tiles=1, canvases=((64, 64),), kind="crop")
    with pytest.raises(ValueError, match="does not hold a crop of 64"):
        functional.views_of(jnp.zeros((1, 80, 80, 3)), rule, (32, 64))


@pytest.mark.parametrize("effort", EFFORTS)
def test_apply_is_bound_to_the_scorer_and_has_a_gradient(effort):
    scorer = fake_scorer(effort=effort)
    image = jnp.asarray(pictures()[1])[None] / 255.0
    mos, out = scorer.apply(image)
    (expected,) = scorer.predict([pictures()[1]])
    assert mos.shape == (1,) and out["d"].shape[0] == 1 and abs(float(mos[0]) - expected) < 1e-3
    gradient = jax.jit(jax.grad(lambda x: scorer.apply(x)[0].sum()))(image)
    step = 4e-2 * gradient / jnp.abs(gradient).max()
    assert scorer.apply(image + step)[0][0] > mos[0]
    for bad in (image[0], (image * 255).astype(jnp.uint8)):
        with pytest.raises(ValueError, match="images must be"):
            scorer.apply(bad)


def test_load_refuses_what_does_not_fit_the_model(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, fake_params(), METADATA)
    with pytest.raises(WeightsError, match=r"w\.safetensors.*missing: degradation_encoder.*unexpected: in/kernel"):
        load(path)
    save_weights(path, fake_params(), {**METADATA, "config": {"variant": "huge"}})
    with pytest.raises(WeightsError, match="huge"):
        load(path)
    with pytest.raises(WeightsError, match="nonesuch"):
        load("nonesuch")
    with pytest.raises(UserError, match="not a training run"):
        load(tmp_path)


def test_listing_keeps_order_goes_deep_and_names_what_is_missing(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", "sub/.d/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "void").mkdir()
    here = str(tmp_path)
    assert [path[len(here) + 1 :] for path in list_pictures([here])] == ["a.png", "b.JPG", "sub/c.webp"]
    assert list(list_pictures([f"{here}/notes.txt", f"{here}/a.png"])) == [
        f"{here}/notes.txt",
        f"{here}/a.png",
    ]
    assert list(list_pictures([f"{here}/**/*.webp"])) == [f"{here}/sub/c.webp"]
    for missing in ("void", "absent", "*.gif"):
        with pytest.raises(UserError) as caught:
            list_pictures([here, f"{here}/{missing}"])
        assert f"{here}/{missing}" in str(caught.value)


def test_compile_cache_obeys_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "driqa_jax" in compile_cache.cache_folder().parents
    assert compile_cache.enable_compile_cache() is None  # the tests have one already
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv(compile_cache.SWITCH, "off")
        assert compile_cache.enable_compile_cache() is None and not list(tmp_path.iterdir())
        monkeypatch.delenv(compile_cache.SWITCH)
        assert (
            compile_cache.enable_compile_cache() == compile_cache.cache_folder()
            and compile_cache.cache_folder().is_dir()
        )
        assert jax.config.jax_compilation_cache_dir == str(compile_cache.cache_folder())
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
