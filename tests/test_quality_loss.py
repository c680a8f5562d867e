"""The model as a loss: the numbers of the scorer, a true gradient, and the example that fools and guards it."""

import dataclasses
import functools
import importlib.util
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity
from tiny_scorer import tiny_scorer

import driqa_jax
from driqa_jax.inference import functional
from driqa_jax.inference.functional import apply, resolve
from driqa_jax.losses import quality_loss

pytestmark = pytest.mark.usefixtures("tiny_variant")
ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def scorer():
    return tiny_scorer()


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("quality_loss_example", ROOT / "examples" / "quality_loss.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images_of(batch):
    """Already of the canvas' size, so that the 8 bits of the host's resizing play no part."""
    return np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3), np.uint8)


def test_loss_is_one_minus_the_mean_mos_and_calibrated_one_minus_the_score(scorer):
    images = images_of(3)
    mos = np.array(list(scorer.predict(images)))
    options = {"config": scorer.metadata["config"], "rule": scorer.rule}
    losses = quality_loss(scorer.params, **options), quality_loss(scorer.params, scorer.calibration, **options)
    plain, calibrated = jax.jit(lambda x: [loss(x) for loss in losses])(images / np.float32(255))
    assert plain.shape == () and plain.dtype == jnp.float32
    np.testing.assert_allclose(plain, 1 - mos.mean(), atol=1e-5)
    np.testing.assert_allclose(calibrated, 1 - scorer(images).mean() / 100, atol=1e-4)
    assert abs(plain - calibrated) > 0.01
    np.testing.assert_allclose(scorer.quality_loss()(images / np.float32(255)), calibrated, atol=1e-6)


def test_views_that_are_the_same_give_the_same_prediction(scorer):
    images = images_of(3)
    mos, out = scorer.apply(images / np.float32(255))
    np.testing.assert_allclose(mos, list(scorer.predict(images)), atol=1e-5)
    assert out["mos_aux"].shape == (3,)
    for bound, free in zip(
        (mos, out),
        jax.jit(functools.partial(driqa_jax.apply, config=scorer.metadata["config"], rule=scorer.rule))(
            scorer.params, images / np.float32(255)
        ),
        strict=True,
    ):
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), bound, free)


def test_the_default_is_the_bundled_model_with_its_view_rule():
    bundled = driqa_jax.load()
    model, rule = resolve(bundled.params, None, None)
    assert rule == bundled.rule and model == bundled.model
    assert driqa_jax.apply is apply  # what the README imports
    images = jax.ShapeDtypeStruct((2, 64, 80, 3), jnp.float32)
    mos, out = jax.eval_shape(driqa_jax.apply, bundled.params, images)
    assert mos.shape == (2,) and out["degradation_logits"].shape == (2, len(bundled.degradations))
    assert jax.eval_shape(quality_loss(bundled.params, bundled.calibration), images).shape == ()
    fewer = dataclasses.replace(rule, tiles=1)
    assert resolve(bundled.params, None, fewer)[1] == fewer


def test_mismatched_arguments_are_refused_with_advice(scorer):
    images = images_of(1) / np.float32(255)
    config = scorer.metadata["config"]
    for call in (
        lambda **options: driqa_jax.apply(scorer.params, images, **options),
        lambda **options: quality_loss(scorer.params, **options),
    ):
        with pytest.raises(ValueError, match=r"config is given without rule.*pass rule=scorer\.rule"):
            call(config=config)
        with pytest.raises(ValueError, match=r"params: the tensors .* bundled model 'lite'.*scorer\.apply\(images\)"):
            call()
        with pytest.raises(ValueError, match=r"logits/bias \(3,\) instead of \(4,\).*that of config\. .*pass config="):
            call(config={**config, "types": 4}, rule=scorer.rule)


def test_gradient_is_the_slope_along_any_direction(scorer, monkeypatch):
    images = jnp.asarray(images_of(2)[:, :50, :40], jnp.float32) / 255
    # Rounded to 8 bits, the loss is a staircase, and its gradient that of the smooth loss below it.
    monkeypatch.setattr(functional, "_rounded", lambda pixels: pixels)
    loss = quality_loss(scorer.params, scorer.calibration, scorer.metadata["config"], scorer.rule)
    value = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss))(images)
    assert gradient.shape == images.shape and float(jnp.abs(gradient).max()) > 0
    towards = gradient / jnp.linalg.norm(gradient)
    step = 0.002
    slope = (value(images + step * towards) - value(images - step * towards)) / (2 * step)
    np.testing.assert_allclose(slope, jnp.sum(gradient * towards), rtol=0.02)


def test_bad_images_are_refused_by_name(scorer):
    loss = quality_loss(scorer.params, config=scorer.metadata["config"], rule=scorer.rule)
    for bad in (np.zeros((64, 64, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8)):
        with pytest.raises(ValueError, match="images must be"):
            loss(bad)


def test_the_losses_import_nothing_above_them():
    above = "('driqa_jax.inference', 'driqa_jax.models', 'flax')"
    code = f"import driqa_jax.losses, sys; print([name for name in sys.modules if name.startswith({above})])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.strip() == "[]"
    with pytest.raises(AttributeError, match="nonesuch"):
        driqa_jax.losses.nonesuch  # noqa: B018


def test_similarity_of_the_example_is_that_of_scikit_image(example):
    a, b = images_of(2) / 255
    expected = structural_similarity(
        a, b, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert example.ssim(a, b) == pytest.approx(expected, abs=1e-9)
    assert example.ssim(a, a) == pytest.approx(1) and example.psnr(a, a) == np.inf
    assert example.psnr(np.zeros(5), np.full(5, 0.1)) == pytest.approx(20)


@pytest.mark.long
def test_example_runs_and_draws(example, scorer, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(driqa_jax, "load", lambda: scorer)
    assert example.main(["--side", "64", "--steps", "4", "--figure", str(tmp_path / "f.jpg")]) == 0
    rows = {line[:16].strip(): [float(word) for word in line.split() if word[0].isdigit() or word == "inf"]
            for line in capsys.readouterr().out.splitlines()}  # fmt: skip
    assert len(rows) == 6 and rows["original"][1:] == [np.inf, 1]
    assert rows["free pixels"][0] > rows["blurred"][0]
    assert (tmp_path / "f.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_fidelity_holds_the_result_to_its_input(example, monkeypatch):
    start = jnp.asarray(images_of(1)[0, :8, :8], jnp.float32) / 255

    def brighter_is_better(images):
        return -images.mean(), -jnp.ones_like(images) / images.size

    def moved(**options):
        picture = example.descend(brighter_is_better, lambda x: x, start, 0.01, 30, **options)
        return float(jnp.abs(picture - start).mean())

    monkeypatch.setattr(example, "FIDELITY", 100.0)
    assert moved() == pytest.approx(0.3, rel=0.01)
    assert moved(near=start) < 0.02
    assert moved(looks=True) == pytest.approx(0.3, rel=0.05)


@pytest.mark.long
def test_bundled_model_is_fooled_by_pixels_and_helped_by_a_guarded_filter(example, capsys):
    assert example.main([]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {" ".join(row[: row.index("score")]): [float(row[i]) for i in (-6, -4, -1)] for row in words}
    original, blurred, guarded = rows["original"], rows["blurred"], rows["guarded filter"]
    for name in ("free pixels", "guarded pixels"):
        assert rows[name][0] > original[0] and rows[name][1] < blurred[1] and rows[name][2] < blurred[2]
    assert rows["free filter"][0] > guarded[0] and rows["free filter"][1] < blurred[1]
    assert all(better > worse + margin for better, worse, margin in zip(guarded, blurred, (3, 1, 0.02), strict=True))
