"""Where parameters start: a whole model as it is; else pretrained parts, ImageNet, and measured constants."""

import jax
import numpy as np
import pytest
from tiny_model import random_params, tiny

from driqa_jax.checkpoints.load import describe, load
from driqa_jax.checkpoints.weights import flatten, save_weights
from driqa_jax.data.pipeline import evaluation_batches, pretrain_batches
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models import driqa
from driqa_jax.models.signal_statistics import signal_statistics
from driqa_jax.train import initialization
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune, pretrain

PICTURES = 11  # no multiple of the batch that measures


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(driqa.VARIANTS, "tiny", tiny)
    config = default()
    config.model.types = NAMES
    config.model.variant = "tiny"
    config.view.short, config.view.tile = 64, 64
    config.view.canvas = (64, 96)  # a square picture leaves a third of it empty
    return config


@pytest.fixture
def written(config, tmp_path):
    """Write parameters as a weights file; returns its path."""

    def write(params):
        path = tmp_path / "start.safetensors"
        save_weights(path, params, describe({"config": config.to_dict(), "examples": 0, "step": 0}))
        return str(path)

    return write


def as_float16(value):
    return value.astype(np.float16).astype(np.float32)


def test_pretrained_parts_and_imagenet_are_taken_and_features_standardized(config, written, monkeypatch):
    model = driqa.build_model(config.model)
    given = random_params(model, seed=5)
    backbone = given["quality_encoder"]["backbone"]
    monkeypatch.setattr(initialization, "imagenet_weights", lambda: (backbone, None))
    pretrained = {name: given[name] for name in ("degradation_encoder", "restoration")}
    config.init = written(pretrained)
    source = FakeSource(PICTURES)
    params = initialization.finetuning_params(config, model, source)

    found = flatten(params)
    for path, value in flatten(pretrained).items():
        np.testing.assert_array_equal(found[path], as_float16(value))
    for path, value in flatten(backbone).items():
        np.testing.assert_array_equal(found[f"quality_encoder/backbone/{path}"], value)

    batch = next(evaluation_batches(source, finetune.view_rule(config, 1), config.view.canvas, PICTURES))

    @jax.jit
    def features(params, batch):
        whole, valid, *_ = finetune.as_inputs(batch)
        return model.apply({"params": params}, whole, valid, method="look_at_quality")

    moments, cells = (np.asarray(x) for x in features(params, batch))
    constants = params["quality_encoder"]
    inside = np.zeros(cells.shape[:3], bool)
    inside[:, :2, :2] = True
    for name, rows in (("standardize_vector", moments), ("standardize_tokens", cells[inside])):
        rows = rows.astype(np.float64)
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        np.testing.assert_allclose(constants[name]["shift"], mean, atol=1e-4 * np.abs(rows).max(), err_msg=name)
        np.testing.assert_allclose(constants[name]["scale"], 1 / (deviation + 1e-3), rtol=1e-2, err_msg=name)


def test_a_whole_model_comes_as_it_is(config, written):
    model = driqa.build_model(config.model)
    whole = random_params(model, seed=6)
    config.init = written(whole)
    found = flatten(initialization.finetuning_params(config, model, source=None))
    assert found.keys() == flatten(whole).keys()
    for path, value in flatten(whole).items():
        np.testing.assert_array_equal(found[path], as_float16(value))


@pytest.mark.long
def test_pretraining_starts_with_the_two_parts_alone(config):
    model = driqa.build_model(config.model)
    config.stage, config.pretrain.crop, config.batch_size = "pretrain", 32, 4
    source = FakeSource(PICTURES)
    params = initialization.pretraining_params(config, model, source)
    assert set(params) == {"degradation_encoder", "restoration"}

    # The constants are those of degraded pictures: standardized, others of the kind have no mean and unit deviation.
    photos = next(pretrain_batches(source, 32, PICTURES, seed=7))
    pictures, *_ = pretrain.degrade(config, photos["photo"] / np.float32(255), photos["index"], 0)
    known = signal_statistics(pictures.reshape(-1, 32, 32, 3))
    constants = params["degradation_encoder"]["standardize_statistics"]
    seen = (np.asarray(known) - constants["shift"]) * constants["scale"]
    moved = known.std(axis=0) > 1e-3
    assert np.abs(np.median(seen[:, moved].mean(axis=0))) < 0.3
    assert 0.5 < np.median(seen[:, moved].std(axis=0)) < 1.5


def test_another_variant_is_refused_naming_both(config, written):
    path = written(random_params(driqa.build_model(config.model)))
    with pytest.raises(UserError, match="'tiny'.*'lite'"):
        load(path, "lite")


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model 'nothing'"):
        load("nothing", "lite")
    with pytest.raises(UserError, match="not a training run"):
        load(str(tmp_path), "lite")
