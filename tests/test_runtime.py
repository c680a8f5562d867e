"""Scores by ONNX Runtime: the rule that chooses it, its agreement with JAX, and what it imports."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from lite_deduction import PHOTOS, model

import driqa_jax
from driqa_jax.checkpoints.weights import file_sha256, params_sha256, save_weights
from driqa_jax.cli.main import main
from driqa_jax.errors import UserError
from driqa_jax.inference import runtime
from driqa_jax.inference.exports.onnx import file as onnx_file
from driqa_jax.inference.provenance import describe

DOG = next(str(path) for path in PHOTOS if path.name == "dog.jpg")
AGREE = 0.05  # points


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """m.safetensors and m.onnx beside it."""
    path = tmp_path_factory.mktemp("ready") / "m.safetensors"
    loaded = model()[1]
    save_weights(path, loaded.params, loaded.metadata)
    onnx_file.save(path.with_suffix(".onnx"), loaded, "m", "views")
    return path


@pytest.fixture(scope="module")
def scorers(weights):
    return {name: driqa_jax.load(weights, runtime=name) for name in ("jax", "onnx")}


def copied(weights, folder, change=None):
    """The two files in another folder; `change` maps metadata of the ONNX file to others."""
    (folder / "m.safetensors").write_bytes(weights.read_bytes())
    made = onnx.load(weights.with_suffix(".onnx"))
    if change:
        onnx.helper.set_model_props(made, change({prop.key: prop.value for prop in made.metadata_props}))
    onnx.save(made, folder / "m.onnx")
    return folder / "m.safetensors"


def test_both_runtimes_agree_and_a_score_depends_on_its_image_alone(scorers):
    expected, found = (list(scorers[name].stream(PHOTOS)) for name in ("jax", "onnx"))
    for one, other in zip(expected, found, strict=True):
        assert abs(one.score - other.score) < AGREE and abs(one.uncertainty - other.uncertainty) < AGREE
    assert np.ptp([one.score for one in found]) > 10
    alone = [scorers["onnx"](path) for path in PHOTOS]
    batched = copied_scorer(scorers["onnx"], batch_size=3)
    assert alone == [one.score for one in found] == list(batched(PHOTOS[::-1])[::-1])


def copied_scorer(scorer, **options):
    return driqa_jax.load(scorer.name, runtime="onnx", **options)


@pytest.mark.parametrize("effort", ["fast", "accurate"])
def test_efforts(weights, effort):
    one, other = (driqa_jax.load(weights, runtime=name, effort=effort)(DOG) for name in ("jax", "onnx"))
    assert abs(one - other) < AGREE


def test_explanations_agree(scorers):
    one, other = (scorers[name].explain(DOG) for name in ("jax", "onnx"))
    np.testing.assert_allclose(one.quality_map, other.quality_map, atol=0.1)
    np.testing.assert_array_equal(one.weights, other.weights)
    assert other.restored is None and other.not_restored == one.not_restored != ""
    by_name = {finding.name: finding for finding in one.degradations}
    for finding in other.degradations:
        for field in ("probability", "severity", "visibility"):
            assert abs(getattr(finding, field) - getattr(by_name[finding.name], field)) < 2e-3
    features = [scorers[name].features([DOG]) for name in ("jax", "onnx")]
    for key in ("d", "q"):
        np.testing.assert_allclose(*(each[key] for each in features), atol=2e-3)


def test_apply_is_always_jax(scorers, weights):
    images = np.random.default_rng(0).random((1, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(*(scorers[name].apply(images)[0] for name in ("jax", "onnx")), atol=1e-6)
    alone = driqa_jax.load(weights.with_suffix(".onnx"))
    assert alone.executor.name == "onnx" and alone(DOG) == scorers["onnx"](DOG)
    with pytest.raises(UserError, match=r"m\.onnx: an ONNX file, from which JAX cannot read a model"):
        alone.apply(images)
    with pytest.raises(UserError, match="from which JAX cannot read a model"):
        driqa_jax.load(weights.with_suffix(".onnx"), runtime="jax")


def test_auto_takes_a_file_of_these_weights_and_passes_over_others(weights, tmp_path, monkeypatch, capsys):
    assert driqa_jax.load(weights).executor.name == "onnx"
    provenance = describe(driqa_jax.load(weights))
    assert provenance["runtime"] == "onnx" and provenance["sha256"] == file_sha256(weights)
    assert set(provenance["versions"]) == {"driqa_jax", "python", "onnxruntime", "numpy", "pillow"}
    assert driqa_jax.load("lite-0.5").executor.name == "jax" and not capsys.readouterr().err
    stale = copied(weights, tmp_path, lambda held: {**held, "params_sha256": "0" * 64})
    assert driqa_jax.load(stale).executor.name == "jax"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "m.onnx: was written from other weights" in said[0] and "scoring with JAX" in said[0]
    with pytest.raises(UserError, match=r"m\.onnx: was written from other weights than those of .*; export it again"):
        driqa_jax.load(stale, runtime="onnx")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert runtime.onnx_for(str(weights), "auto", "default") is None


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda held: {**held, "format": "driqa_jax/onnx/0"},
            r"format 'driqa_jax/onnx/0', expected 'driqa_jax/onnx/\d'",
        ),
        (lambda held: {**held, "input": "image"}, "reads 'image', but scoring needs an export that reads views"),
        (lambda held: {}, "format None, expected"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(weights, tmp_path, capsys, change, said):
    path = copied(weights, tmp_path, change).with_suffix(".onnx")
    with pytest.raises(UserError, match=f"m\\.onnx: {said}"):
        driqa_jax.load(path)
    assert main(["score", DOG, "--model", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_damaged_absent_and_unknown(weights, tmp_path, monkeypatch, capsys):
    path = copied(weights, tmp_path)
    path.with_suffix(".onnx").write_bytes(weights.with_suffix(".onnx").read_bytes()[:10_000])
    for name in (path.with_suffix(".onnx"), path):
        assert main(["score", DOG, "--model", str(name), "--runtime", "onnx"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "m.onnx: not a complete ONNX file" in line
    with pytest.raises(UserError, match=r"gone\.onnx: cannot be read"):
        driqa_jax.load(tmp_path / "gone.onnx")
    path.with_suffix(".onnx").unlink()
    with pytest.raises(UserError, match=r"m\.safetensors: has no ONNX file as .*m\.onnx; write one with"):
        driqa_jax.load(path, runtime="onnx")
    with pytest.raises(UserError, match="the runtime must be one of auto, jax, onnx, got 'tpu'"):
        driqa_jax.load(path, runtime="tpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"m\.onnx: needs onnxruntime, which is not installed: pip install"):
        driqa_jax.load(weights, runtime="onnx")


def test_the_runtime_is_fixed_across_resume(weights, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    words = ["score", DOG, "--model", str(weights), "-o", str(out)]
    assert main([*words, "--runtime", "onnx"]) == 0
    assert json.loads((tmp_path / "scores.meta.json").read_text())["runtime"] == "onnx"
    rows = out.read_bytes()
    assert main([*words, "--resume"]) == 0 and out.read_bytes() == rows
    capsys.readouterr()
    assert main([*words, "--resume", "--runtime", "jax"]) == 2
    assert "its rows were made with runtime onnx, but now it is jax" in capsys.readouterr().err


def test_a_run_with_onnx_imports_no_jax_and_compiles_nothing(weights, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    script = (
        "import sys\nfrom driqa_jax.cli.main import main\ncode = main(sys.argv[1:])\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\nsys.exit(code)"
    )
    words = [sys.executable, "-c", script, "score", DOG, "--model", str(weights)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert "onnxruntime" in imported
    assert not imported & {"jax", "jaxlib", "flax", "ml_collections", "optax", "orbax", "scipy", "onnx"}
    assert not list(tmp_path.iterdir())


def test_the_file_holds_the_hash_of_the_parameters(weights):
    assert runtime.OnnxModel(weights.with_suffix(".onnx")).params_sha256 == params_sha256(model()[1].params)
