"""The protocol runner: each run once, resumed, refused or reported; medians and differences; a rerun to the last digit."""

import csv
import json
import signal
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
from tiny_model import random_params, tiny

from driqa_jax.data.fake import FakeSource
from driqa_jax.data.resized import Resized
from driqa_jax.data.decode import decode
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.protocol import models, runner
from driqa_jax.protocol.config import default
from driqa_jax.protocol.record import FILE, Record, load_scores
from driqa_jax.protocol.runner import run_protocol
from driqa_jax.scoring.weights import save_weights
from driqa_jax.train.describe import describe

pytestmark = pytest.mark.usefixtures("tiny_variant")
ROWS = {"full": {}, "no RS loss": {"loss.rs_weight": 0.0}}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A weights file of the tiny model."""
    config = default(ROWS).base
    config.model.variant, config.model.types, config.view.tile, config.view.short = "tiny", NAMES, 64, 64
    path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
    save_weights(
        path, random_params(tiny(config.model)), describe({"config": config.to_dict(), "examples": 0, "step": 0})
    )
    return path


def configured(start, rows=ROWS, across=None, **changes):
    """A protocol of tiny trainings on generated pictures: two evaluations each."""
    config = default(
        rows,
        {"other": {"kind": "fake", "fake_count": 12, "height": 80, "canvas": (64, 64)}} if across is None else across,
    )
    base = config.base
    base.model.variant, base.model.types, base.init = "tiny", NAMES, str(start)
    base.data.kind, base.data.fake_count = "fake", 40
    base.view.short, base.view.canvas, base.view.tile = 64, (64, 64), 64
    base.batch_size, base.steps, base.log_every, base.eval_every = 8, 4, 4, 2
    config.splits.kind, config.splits.numbers, config.bootstrap = "hash", (0, 1), 50
    config.update_from_flattened_dict(changes)
    return ml_collections.FrozenConfigDict(config)


@pytest.fixture(scope="module")
def done(start, tmp_path_factory):
    """The workdir of a protocol that is done: two rows on two splits."""
    workdir = tmp_path_factory.mktemp("protocol")
    assert run_protocol(configured(start), str(workdir)) == 0
    return workdir


def records(workdir):
    return {file.parent: Record.load(file) for file in sorted(workdir.rglob(FILE))}


def test_each_run_has_its_record_scores_and_provenance(done, start):
    found = records(done)
    assert len(found) == 4
    for folder, record in found.items():
        assert set(record.reports) == {"last", "val_selected"}
        scores = load_scores(folder, "fake test")
        for name, reports in record.reports.items():
            report = reports["fake test"]
            assert report.n == len(scores.image) == record.run.split.counts["test"]
            assert report.metrics["srcc"] == srcc(scores.predicted[name], scores.mos)
            assert len(report.intervals["srcc"]) == 2 and reports["other"].n == 12
        made = record.provenance
        assert made["versions"]["jax"] and made["hardware"]["devices"] == 8 and made["wall_seconds"] > 0
        assert made["view"]["tile"] == 64 and len(made["init"]["sha256"]) == 64
        assert len(record.checkpoints["last"]["sha256"]) == 64 and record.checkpoints["last"]["step"] == 4
        best = max(
            (
                json.loads(line)
                for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()
                if "val_srcc" in line
            ),
            key=lambda line: line["val_srcc"],
        )
        assert record.checkpoints["val_selected"]["step"] == best["step"]
