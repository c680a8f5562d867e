"""A model as an ONNX file: ONNX Runtime says what the JAX scorer says, from views and from an image of any size."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import test_deduction
from lite_deduction import CALIBRATION, INTERVAL, PHOTOS, apply, model, square_variants, variants, views_of_photos
from tiny_model import random_params

from benchmarks.onnx import BOUNDS, ROUNDED, compared
from driqa_jax.checkpoints.load import LoadedModel
from driqa_jax.checkpoints.weights import flatten, params_sha256, save_weights
from driqa_jax.cli.main import main
from driqa_jax.data.decode import decode
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UserError
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.conformal import Interval, evidence, tile_spread
from driqa_jax.inference.effort import look
from driqa_jax.inference.exports.onnx import file as onnx_file
from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.inference.exports.onnx.views import image_in
from driqa_jax.inference.onnx_executor import inputs_of
from driqa_jax.inference.scorer import Scorer
from experiments.deduction.features import RULE

pytestmark = pytest.mark.usefixtures("tiny_variant")


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(file, inputs):
    return dict(zip([output.name for output in file.get_outputs()], file.run(None, inputs), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def views_file(folder):
    onnx_file.save(folder / "views.onnx", model()[1], "m", "views")
    return session(folder / "views.onnx")


@pytest.fixture(scope="module")
def image_path(folder):
    onnx_file.save(folder / "image.onnx", model()[1], "folder/m.safetensors")
    return folder / "image.onnx"


@pytest.fixture(scope="module")
def expected():
    net, loaded = model()
    return apply(net, loaded.params, views_of_photos())


def points(mos):
    return np.clip(100 * Calibration(**CALIBRATION)(mos), 0, 100)


def test_scores_of_views_are_those_of_the_model(views_file, expected):
    mos, out = expected
    views = dict(views_of_photos())
    assert (views.pop("valid") == views["whole"].shape[1:3]).all()
    found = run(views_file, views)
    np.testing.assert_allclose(found["score"], points(mos), atol=BOUNDS["views"])
    assert np.ptp(points(mos)) > 10 and points(mos).min() > 0 and points(mos).max() < 100
    assert np.ptp(out["drops"]) > 0.5 and np.ptp(out["visibility"]) > 0.2
    np.testing.assert_allclose(found["mos"], mos, atol=1e-4)
    np.testing.assert_allclose(found["degradations"], 1 / (1 + np.exp(-out["degradation_logits"])), atol=1e-3)
    for name in ("severity", "patch_scores", "per_tile_mos"):
        np.testing.assert_allclose(found[name], out[name], atol=1e-3, err_msg=name)


def test_the_canvas_does_not_count(views_file, expected):
    views = {name: value[:2] for name, value in views_of_photos().items()}
    whole = np.random.default_rng(0).integers(0, 256, (2, 448, 608, 3), dtype=np.uint8)
    whole[:, :384, :384] = views["whole"]
    found, (mos, out) = run(views_file, inputs_of({**views, "whole": whole}, 1)), expected
    np.testing.assert_allclose(found["score"], points(mos[1:2]), atol=BOUNDS["views"])
    np.testing.assert_allclose(found["patch_scores"], out["patch_scores"][1:2], atol=1e-3)


def test_an_image_gets_score_interval_findings_and_map(image_path):
    net, loaded = model()
    images = [*map(decode, PHOTOS), *square_variants()]
    views = [make_view(image, RULE) for image in images]
    stacked = {name: np.stack([view[name] for view in views]) for name in views[0]}
    mos, out = apply(net, loaded.params, stacked)
    assert np.ptp(points(mos)) > 20
    file, interval = session(image_path), Interval(**INTERVAL)
    for row, image in enumerate(images):
        found, about = run(file, {"image": image}), f"image {row}, {image.shape}"
        np.testing.assert_allclose(found["score"], points(mos[row]), atol=BOUNDS["image"], err_msg=about)
        spread = tile_spread(points(out["per_tile_mos"][row]) / 100)
        half = 100 * interval(spread, evidence(*image.shape[:2], RULE))
        np.testing.assert_allclose(found["uncertainty"], half, atol=BOUNDS["image"], err_msg=about)
        np.testing.assert_allclose(found["findings"], out["visibility"][row], atol=2e-2, err_msg=about)
        np.testing.assert_allclose(found["map"], points(out["patch_scores"][row]), atol=0.5, err_msg=about)


@pytest.fixture(scope="module")
def views_of_an_image():
    g = Graph()
    views = image_in(g, RULE)
    values = {
        "whole": (views.whole, np.uint8, 4),
        "tiles": (views.tiles, np.uint8, 4),
        "boxes": (views.boxes, np.float32, 3),
    }
    outputs = [(g("Identity", value, name=name), dtype, [None] * rank) for name, (value, dtype, rank) in values.items()]
    made = g.model([("image", np.uint8, ["H", "W", 3])], outputs, {}, ("test", "0"))
    return session(made)


SHAPES = [(1, 1), (1, 700), (900, 20), (7, 9), (159, 161), (160, 320), (384, 512), (385, 607), (1200, 1600), (3000, 31)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_views_in_the_graph_are_those_of_the_rule(views_of_an_image, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found, view = run(views_of_an_image, {"image": image}), make_view(image, RULE)
    rows, columns = view["valid"]
    whole = found["whole"][0].transpose(1, 2, 0)
    assert whole.shape == (rows, columns, 3)
    difference = np.abs(whole.astype(int) - view["whole"][:rows, :columns])
    assert difference.max() <= 1 and (difference > 0).mean() < 0.3
    np.testing.assert_array_equal(found["tiles"].transpose(0, 2, 3, 1), view["tiles"])
    np.testing.assert_allclose(found["boxes"][0], view["tile_boxes"], rtol=1e-7)


def test_sizes_and_corners_round_as_those_of_the_rule(views_of_an_image):
    rng = np.random.default_rng(1)
    for height, width in [*rng.integers(1, 700, (60, 2)), *((h, 400) for h in range(400, 460, 4))]:
        found = run(views_of_an_image, {"image": np.zeros((height, width, 3), np.uint8)})
        view = make_view(np.zeros((height, width, 3), np.uint8), look(RULE, "default").rule)
        assert found["whole"].shape[2:] == tuple(view["valid"]), (height, width)
        np.testing.assert_allclose(found["boxes"][0], view["tile_boxes"], rtol=1e-7, err_msg=f"{height} {width}")


def test_the_file_names_what_it_holds_in_equal_bytes(image_path, folder):
    _, loaded = model()
    onnx_file.save(folder / "again.onnx", loaded, "elsewhere/m.safetensors")
    assert (folder / "again.onnx").read_bytes() == image_path.read_bytes()
    file = session(image_path)
    metadata = file.get_modelmeta().custom_metadata_map
    plain = {"format": onnx_file.FORMAT, "input": "image", "model": "m.safetensors", "licence": "CC0-1.0"}
    assert {name: metadata[name] for name in plain} == plain
    assert metadata["params_sha256"] == params_sha256(loaded.params)
    for name, expected in {"calibration": CALIBRATION, "interval": INTERVAL, "provenance": {"steps": 3}}.items():
        assert json.loads(metadata[name]) == expected
    assert ViewRule.from_dict(json.loads(metadata["view"])) == RULE
    assert json.loads(metadata["degradations"]) == loaded.metadata["degradations"]
    assert file.get_outputs()[2].shape == [len(loaded.metadata["degradations"])]


def test_weights_are_stored_without_loss_under_their_names(image_path):
    flat = flatten(model()[1].params)
    stored = {tensor.name: tensor for tensor in onnx.load(image_path).graph.initializer}
    weights = {name: onnx.numpy_helper.to_array(stored[name]) for name in stored if not name.startswith("constant_")}
    assert weights.keys() == flat.keys()
    for name, value in weights.items():
        assert value.dtype == np.float16 and value.size == flat[name].size, name
        np.testing.assert_array_equal(np.sort(value.ravel().astype(np.float32)), np.sort(flat[name].ravel()))


def test_parameters_that_the_model_lacks_are_an_error(folder):
    _, loaded = model()
    params = {**loaded.params, "novel": {"kernel": np.zeros((2, 2), np.float32)}}
    with pytest.raises((UserError, ValueError), match="novel/kernel"):
        onnx_file.save(folder / "x.onnx", loaded._replace(params=params), "m")


def test_parameters_that_no_emitter_reads_are_found():
    g, params = Graph(), Params({"a": {"b": np.zeros(2), "c": np.ones(2)}, "d": {"e": np.ones(1)}})
    params["a"].read(g, "b")
    assert params.unread() == ["a/c", "d/e"]


def test_a_model_without_calibration_and_interval_has_plain_points(folder):
    _, loaded = model()
    plain = {key: value for key, value in loaded.metadata.items() if key not in ("calibration", "interval")}
    onnx_file.save(folder / "plain.onnx", loaded._replace(metadata=plain), "m")
    onnx_file.save(folder / "plain_views.onnx", loaded._replace(metadata=plain), "m", "views")
    found = run(session(folder / "plain.onnx"), {"image": decode(PHOTOS[0])})
    assert list(found) == ["score", "findings", "map"]
    views = inputs_of(views_of_photos(), 0)
    again = run(session(folder / "plain_views.onnx"), views)
    np.testing.assert_allclose(found["score"], np.clip(100 * again["mos"], 0, 100), atol=0.2)


def test_other_models_and_view_rules_are_refused(folder, capsys):
    _, loaded = model()
    assert main(["export", "--model", "lite-0.5", "-o", str(folder / "lite.onnx")]) == 2
    assert "lite-0.5: only the form 'deduction' of the variant 'lite' can be written as ONNX" in capsys.readouterr().err
    tiny = test_deduction.METADATA
    with pytest.raises(UserError, match="not the form 'deduction' of 'tiny'"):
        onnx_file.save(folder / "x.onnx", LoadedModel(random_params(test_deduction.built()), tiny, None), "m")
    view = {**RULE.to_dict(), "canvases": [[384, 384]]}
    with pytest.raises(UserError, match="canvases that hold 384x608"):
        onnx_file.save(folder / "x.onnx", loaded._replace(metadata={**loaded.metadata, "view": view}), "m")


def test_the_command_writes_a_file_or_says_what_is_wrong(folder, tmp_path, monkeypatch, capsys):
    _, loaded = model()
    weights, out = tmp_path / "w.safetensors", tmp_path / "w.onnx"
    save_weights(weights, loaded.params, loaded.metadata)
    assert main(["export", "--model", str(weights), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}\n"
    assert [each.name for each in session(out).get_inputs()] == ["image"]
    assert main(["export", "--model", str(weights), "-o", str(out), "--input", "views"]) == 0
    assert [each.name for each in session(out).get_inputs()] == ["whole", "tiles", "tile_boxes"]
    capsys.readouterr()
    out.unlink()
    for target, extra, said in [
        ("void/w.onnx", [], "does not exist; create it first"),
        ("w.onnx", ["--data-path", "d"], "--data-path goes with .safetensors"),
        ("w.onnx", ["--licence", "mine"], "weights files keep their licence"),
        ("w.stablehlo", ["--input", "views"], "--input goes with .onnx"),
    ]:
        assert main(["export", "--model", str(weights), "-o", str(tmp_path / target), *extra]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "--model", str(weights), "-o", str(out)]) == 2
    assert "needs onnx, which is not installed: pip install 'driqa_jax[onnx]'" in capsys.readouterr().err
    assert not out.exists()


def test_the_example_needs_neither_jax_nor_this_package(image_path, root, tmp_path):
    absent = tmp_path / "absent.jpg"
    code = "import runpy, sys\nfor name in ('jax', 'driqa_jax', 'onnx'): sys.modules[name] = None\n"
    command = [sys.executable, "-c", code + "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"]
    command += [str(root / "examples" / "score_onnx.py"), str(image_path), str(PHOTOS[0]), str(absent)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1 and str(absent) in done.stderr
    score = run(session(image_path), {"image": decode(PHOTOS[0])})["score"][0]
    assert done.stdout.startswith(f"{PHOTOS[0]}: {score:.2f} ± ")


@pytest.mark.long
def test_photos_and_fifty_variants_score_as_in_jax(image_path, views_file, folder):
    net, loaded = model()
    scorer = Scorer(net, loaded.params, loaded.metadata)
    files = {"views": folder / "views.onnx", "image": image_path}
    differences = np.array(list(compared(scorer, files, [*map(decode, PHOTOS), *variants()])))
    for kind, found in zip(files, np.abs(differences.T), strict=True):
        assert found.max() <= BOUNDS[kind] + ROUNDED, (kind, found.argmax())
