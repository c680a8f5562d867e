"""A model as an ONNX file: ONNX Runtime says what the JAX scorer says, from views and from an image of any size."""

import numpy as np
import onnxruntime
import pytest
from lite_deduction import CALIBRATION, apply, model, views_of_photos

from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.exports.onnx import file as onnx_file

VIEWS_BOUND = 0.02  # points


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(file, inputs):
    return dict(zip([output.name for output in file.get_outputs()], file.run(None, inputs), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def views_file(folder):
    onnx_file.save(folder / "views.onnx", model()[1], "views", "views")
    return session(folder / "views.onnx")


@pytest.fixture(scope="module")
def expected():
    net, loaded = model()
    return apply(net, loaded.params, views_of_photos())


def points(mos):
    return np.clip(100 * Calibration(**CALIBRATION)(mos), 0, 100)


def test_scores_of_views_are_those_of_the_model(views_file, expected):
    mos, out = expected
    found = run(views_file, views_of_photos())
    np.testing.assert_allclose(found["score"], points(mos), atol=VIEWS_BOUND)
    assert np.ptp(points(mos)) > 10 and points(mos).min() > 0 and points(mos).max() < 100
    assert np.ptp(out["drops"]) > 0.5 and np.ptp(out["visibility"]) > 0.5
    np.testing.assert_allclose(found["mos"], mos, atol=1e-4)
    np.testing.assert_allclose(found["degradations"], 1 / (1 + np.exp(-out["degradation_logits"])), atol=1e-3)
    for name in ("severity", "visibility", "patch_scores", "patch_weights", "per_tile_mos"):
        np.testing.assert_allclose(found[name], out[name], atol=1e-3, err_msg=name)


def test_neither_the_canvas_nor_what_lies_beside_the_image_counts(views_file, expected):
    views = {name: value[:2] for name, value in views_of_photos().items()}
    whole = np.random.default_rng(0).integers(0, 256, (2, 448, 608, 3), dtype=np.uint8)
    whole[:, :384, :384] = views["whole"]
    found, (mos, out) = run(views_file, {**views, "whole": whole}), expected
    np.testing.assert_allclose(found["score"], points(mos[:2]), atol=VIEWS_BOUND)
    np.testing.assert_allclose(found["patch_scores"][:, :12, :12], out["patch_scores"][:2], atol=1e-3)
    assert found["patch_weights"].sum() == 2 * 12 * 12 and found["patch_weights"][:, :12, :12].all()
