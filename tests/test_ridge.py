"""The kernel ridge of a protocol: numpy's own solution, and a row of a table."""

import numpy as np
import pytest
from tiny_model import random_params, tiny

from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.protocol.config import default
from driqa_jax.protocol.models import STRENGTHS, WIDTHS, KernelRidge
from driqa_jax.protocol.plan import DataSets, make_plan
from driqa_jax.protocol.record import FILE, Record, load_scores
from driqa_jax.protocol.runner import run_protocol
from driqa_jax.train import initialization


def test_it_is_the_ridge_of_a_gaussian_kernel():
    random = np.random.default_rng(0)
    x, other = random.normal(2.0, [1.0, 30.0, 0.0], (40, 3)), random.normal(2.0, [1.0, 30.0, 0.0], (7, 3))
    y = np.sin(x[:, 0]) + x[:, 1] / 60
    predicted = KernelRidge(x, y).fit(0.7, 0.1)(other)

    scale = np.array([1 / x[:, 0].std(), 1 / x[:, 1].std(), 0.0])
    z, new = (x - x.mean(axis=0)) * scale, (other - x.mean(axis=0)) * scale

    def kernel(a, b):
        return np.exp(-np.square(a[:, None] - b[None]).mean(axis=2) / (2 * 0.7**2))

    weights = np.linalg.solve(kernel(z, z) + 0.1 * np.eye(40), y - y.mean())
    np.testing.assert_allclose(predicted, kernel(new, z) @ weights + y.mean(), rtol=1e-8)
    assert np.corrcoef(predicted, np.sin(other[:, 0]) + other[:, 1] / 60)[0, 1] > 0.9


@pytest.fixture
def protocol(tmp_path, tiny_variant, monkeypatch):
    config = default({"ridge": {"baseline": "ridge"}})
    base = config.base
    base.stage, base.model.variant, base.model.types = "heads", "tiny", NAMES
    base.data.kind, base.data.fake_count = "fake", 60
    base.view.short, base.view.canvas, base.view.tile, base.batch_size = 64, (64, 64), 64, 8
    base.cache.folder, base.init = str(tmp_path / "features"), str(tmp_path / "tiny.safetensors")
    config.splits.kind, config.seeds, config.bootstrap = "hash", (0, 1), 50
    described = describe({"config": base.to_dict(), "examples": 0, "step": 0})
    params = random_params(tiny(base.model))
    save_weights(base.init, params, described)
    monkeypatch.setattr(initialization, "imagenet_weights", lambda: (params["quality_encoder"]["backbone"], None))
    return config


def test_a_row_of_it_is_fitted_once_for_all_seeds_and_reported_as_others(protocol, tmp_path):
    assert run_protocol(protocol, str(tmp_path / "run")) == 0
    (file,) = (tmp_path / "run").rglob(FILE)
    record = Record.load(file)
    chosen = record.provenance["ridge"]
    assert chosen["width"] in WIDTHS and chosen["strength"] in STRENGTHS and -1 <= chosen["val_srcc"] <= 1
    report = record.reports["as fitted"]["fake test"]
    scores = load_scores(file.parent, "fake test").predicted["as fitted"]
    assert report.n == len(scores) == record.run.split.counts["test"] and np.std(scores) > 0
    assert "| ridge | fake test |" in (tmp_path / "run" / "table.md").read_text()


def test_what_cannot_be_is_refused(protocol):
    protocol.base.stage = "finetune"
    with pytest.raises(UserError, match="config.rows, 'ridge': the ridge only reads cached features"):
        make_plan(protocol, DataSets())
    protocol.rows = (("forest", (("baseline", "forest"),)),)
    with pytest.raises(UserError, match="config.rows, 'forest': baseline must be one of ridge, got 'forest'"):
        make_plan(protocol, DataSets())
