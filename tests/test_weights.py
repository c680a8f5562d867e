"""Weights files: what is saved comes back, what is not right is refused by name."""

import json
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
import safetensors.numpy
from fake_model import METADATA, fake_params

from driqa_jax.checkpoints import weights
from driqa_jax.checkpoints.load import describe, expected_params, load, model_config
from driqa_jax.checkpoints.weights import WeightsError, load_weights, save_weights
from driqa_jax.data.views import ViewRule
from driqa_jax.models.driqa import build_model


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {**fake_params(), "bias": np.float32(0.25)}, METADATA)
    return path


def test_round_trip(file):
    params, metadata = load_weights(file)
    assert metadata == METADATA
    assert params["bias"].shape == () and params["bias"] == 0.25
    kernel = fake_params()["in"]["kernel"]
    assert params["in"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(params["in"]["kernel"], kernel.astype(np.float16).astype(np.float32))


def test_the_file_is_plain_safetensors_in_float16(file):
    tensors = safetensors.numpy.load_file(file)
    assert set(tensors) == {"in/kernel", "out/kernel", "bias"}
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}


def test_bytes_are_the_same_in_every_process(file, tmp_path, root):
    code = (
        "import sys; sys.path.insert(0, 'tests'); from fake_model import *\n"
        "from driqa_jax.checkpoints.weights import *\n"
        "params, metadata = {'bias': np.float32(0.25), **fake_params()}, dict(reversed(METADATA.items()))\n"
        "print(save_weights(sys.argv[1], params, metadata))\n"
    )
    again = tmp_path / "again.safetensors"
    done = subprocess.run([sys.executable, "-c", code, again], cwd=root, capture_output=True, text=True, check=True)
    assert again.read_bytes() == file.read_bytes()
    assert done.stdout.strip() == weights.file_sha256(file)


def test_metadata_may_be_json_text_as_in_a_header(file, tmp_path):
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in METADATA.items()}
    other = tmp_path / "text.safetensors"
    save_weights(other, {**fake_params(), "bias": np.float32(0.25)}, header)
    assert other.read_bytes() == file.read_bytes()
    assert weights.decode_metadata({**header, "calibration": "null"}, "x")["calibration"] == {}


def test_another_variant_is_refused_naming_both(file):
    with pytest.raises(WeightsError, match=r"w\.safetensors.*'lite'.*'s'"):
        load(file, variant="s")


def test_tensors_that_do_not_fit_are_named(file):
    expected = {**fake_params(), "bias": np.zeros(3), "head": {"kernel": np.zeros((2, 2))}}
    del expected["out"]
    with pytest.raises(WeightsError) as caught:
        weights.check_tensors(file, weights.flatten(load_weights(file)[0]), weights.flatten(expected))
    for said in (
        "w.safetensors",
        "missing: head/kernel",
        "unexpected: out/kernel",
        "bias () instead of (3,)",
    ):
        assert said in str(caught.value)


def test_files_that_are_no_weights_are_refused_by_name(file, tmp_path):
    short = tmp_path / "short.safetensors"
    short.write_bytes(file.read_bytes()[:-10])
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"GIF89a and so on")
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(2)}, foreign, {"format": "pt"})
    poisoned = tmp_path / "poisoned.safetensors"
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in METADATA.items()}
    safetensors.numpy.save_file({"a": np.array([np.nan], np.float16)}, poisoned, header)
    cases = {
        short: "safetensors file",
        noise: "safetensors file",
        foreign: "format 'pt'",
        poisoned: "non-finite",
    }
    for path, reason in {**cases, tmp_path / "absent.safetensors": "cannot be read"}.items():
        with pytest.raises(WeightsError, match=reason) as caught:
            load_weights(path)
        assert path.name in str(caught.value)


def test_parameters_that_float16_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "w.safetensors"
    for value, reason in (
        (np.float32(1e6), "65504"),
        (np.array([np.inf]), "not finite"),
        (np.arange(3), "int64"),
    ):
        with pytest.raises(ValueError, match=reason):
            save_weights(path, {"layer": {"kernel": value}}, METADATA)
    with pytest.raises(WeightsError, match="licence"):
        save_weights(path, fake_params(), {key: METADATA[key] for key in METADATA if key != "licence"})
    with pytest.raises(WeightsError, match=r"degradations.*dict"):
        save_weights(path, fake_params(), {**METADATA, "degradations": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(weights.UserError, match=r"w\.safetensors.*No space"):
        save_weights(file, fake_params(1), METADATA)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


def test_flatten_is_undone_by_unflatten_and_refuses_slashes():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert weights.flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert weights.unflatten(weights.flatten(tree)) == tree
    with pytest.raises(ValueError, match="a/b"):
        weights.flatten({"a/b": 1})


def test_an_unknown_name_lists_what_is_bundled():
    with pytest.raises(WeightsError, match="no model 'nonesuch': give a bundled model \\(lite"):
        weights.bundled("nonesuch")
    assert list(weights.bundled_files()) == ["lite", "lite-0.5"]  # the default first


def test_bundled_weights_fit_their_models():
    for name, path in weights.bundled_files().items():
        params, metadata = load_weights(path)
        model = build_model(model_config(metadata, path))
        expected = expected_params(model)
        weights.check_tensors(path, weights.flatten(params), weights.flatten(expected))
        assert metadata["licence"], name


def test_weights_of_an_unknown_variant_name_those_there_are():
    with pytest.raises(WeightsError, match=r"w\.st: the variant must be one of .*lite.*'huge'"):
        model_config({"config": ml_collections.ConfigDict({"variant": "huge"})}, "w.st")


def test_what_a_training_says_of_itself_can_be_saved_and_loaded(tmp_path):
    config = {
        "stage": "finetune",
        "model": {"variant": "lite", "types": ["jpeg", "haze"], "dropout": 0.1},
        "view": {"short": 256, "tile": 224},
    }
    header = describe({"config": config, "examples": 32, "step": 2})
    save_weights(tmp_path / "w.safetensors", fake_params(), header)
    metadata = load_weights(tmp_path / "w.safetensors")[1]
    assert metadata == weights.decode_metadata(header, tmp_path)
    assert model_config(metadata).to_dict() == config["model"]
    assert ViewRule.from_dict(metadata["view"]).short == 256
