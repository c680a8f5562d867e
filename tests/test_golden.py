"""The bundled model gives the scores that it is known to give, by the scorer and by its differentiable twin."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import driqa_jax
from driqa_jax.checkpoints.weights import bundled, file_sha256
from driqa_jax.data.decode import decode
from driqa_jax.inference.effort import EFFORTS

TESTS = pathlib.Path(__file__).resolve().parent
PHOTOS = TESTS.parent / "examples" / "photos"
GOLDEN = json.loads((TESTS / "golden_scores.json").read_text())
# At full size the tiles of these differ, which makes them as uncertain as small pictures.
UNEVEN = ("city_jpeg8.jpg", "nyc_shake.jpg")


@pytest.fixture(scope="module")
def scorers():
    return {effort: driqa_jax.load(runtime="jax", effort=effort) for effort in EFFORTS}


def test_golden_scores_are_of_the_bundled_weights():
    assert file_sha256(bundled("lite")) == GOLDEN["sha256"], (
        "the bundled weights changed: run `python -m tools.write_golden`, which rewrites tests/golden_scores.json, and "
        "compare the scores before and after"
    )
    names = {path.name for path in PHOTOS.iterdir()} - {"README.md"}
    assert all(scores.keys() == names for scores in GOLDEN["scores"].values()) and len(names) == 12


@pytest.mark.parametrize("effort", EFFORTS)
def test_example_photos_score_as_recorded(scorers, effort):
    expected = GOLDEN["scores"][effort]
    found = scorers[effort]([PHOTOS / name for name in expected])
    np.testing.assert_allclose(found, list(expected.values()), atol=0.0101)


def test_the_bundled_onnx_file_gives_the_same_scores():
    expected = GOLDEN["scores"]["default"]
    found = driqa_jax.load(runtime="onnx")([PHOTOS / name for name in expected])
    np.testing.assert_allclose(found, list(expected.values()), atol=0.0501)


def test_apply_agrees_with_the_prediction_and_has_a_gradient(scorers):
    scorer = scorers["fast"]
    images = np.stack([decode(PHOTOS / name) for name in ("dog.jpg", "nyc_shake.jpg")])
    predicted = np.array(list(scorer.predict(images)))

    @jax.jit
    def graded(images):
        def total(images):
            mos, out = scorer.apply(images)
            return mos.sum(), (mos, out["degradation_logits"])

        return jax.value_and_grad(total, has_aux=True)(images)

    (_, (mos, logits)), gradient = graded(jnp.asarray(images, jnp.float32) / 255)
    # Resizing on the device differs by a level here and there, and a visible drop is steep.
    assert np.abs(mos - predicted).max() < 5e-3
    assert logits.shape == (2, len(scorer.degradations))
    assert jnp.isfinite(gradient).all()
    assert all(float(jnp.abs(each).max()) > 0 for each in gradient)


@pytest.mark.parametrize("name", sorted(GOLDEN["scores"]["default"]))
def test_the_uncertainty_grows_as_a_picture_holds_less_to_judge(scorers, name):
    photo = Image.fromarray(decode(PHOTOS / name))
    sides = (224, 160, 96, 64, 32, 8)
    smaller = [np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS)) for side in sides]
    full, *small = [found.uncertainty for found in scorers["default"].stream([np.asarray(photo), *smaller])]
    assert small == sorted(small) and (full <= small[0] or name in UNEVEN)
    assert small[0] < small[1] < small[2] and small[-1] == 100
