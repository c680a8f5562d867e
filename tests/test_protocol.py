"""The protocol runner: each run once, gone on with, refused or reported; a rerun to the last digit."""

import csv
import json
import shutil
import signal

import ml_collections
import numpy as np
import pytest
from fake_model import fake_scorer
from tiny_model import random_params, tiny

from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.data.source import Resized
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.protocol import models, runner
from driqa_jax.protocol.config import default
from driqa_jax.protocol.models import Best
from driqa_jax.protocol.record import FILE, Record, load_scores
from driqa_jax.protocol.runner import rerun, run_protocol
from driqa_jax.train.loop import Hooks

pytestmark = pytest.mark.usefixtures("tiny_variant")
# Both rows, and tests/test_train.py, step by one program: it is compiled once.
ROWS = {"full": {}, "no bad ones": {"data.min_mos": 0.2}}
OTHER = {"other": {"kind": "fake", "fake_count": 12, "height": 80, "canvas": (64, 64)}}


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """Protocols of tiny trainings on generated pictures, of three evaluations each."""
    config = default(ROWS, OTHER)
    base, start = config.base, tmp_path_factory.mktemp("start") / "tiny.safetensors"
    base.model.variant, base.model.types, base.init = "tiny", NAMES, str(start)
    base.data.kind, base.data.fake_count = "fake", 40
    base.view.short, base.view.canvas, base.view.tile = 64, (64, 64), 64
    base.batch_size, base.steps, base.log_every, base.eval_every, base.loss.plcc = 8, 5, 1, 2, 0.5
    config.splits.kind, config.bootstrap = "hash", 50
    described = describe({"config": base.to_dict(), "examples": 0, "step": 0})
    save_weights(start, random_params(tiny(base.model)), described)

    def make(**changes):
        mine = ml_collections.ConfigDict(config.to_dict())
        mine.update_from_flattened_dict(changes)
        return ml_collections.FrozenConfigDict(mine)

    return make


@pytest.fixture(scope="module")
def done(configured, tmp_path_factory):
    """The workdir of a protocol of two rows; the first run was stopped by SIGTERM and gone on with."""
    workdir, train = tmp_path_factory.mktemp("protocol"), models.train

    def stopped(config, folder, hooks):
        def stop(step, params, found):
            hooks.on_eval(step, params, found)
            signal.raise_signal(signal.SIGTERM)

        return train(config, folder, Hooks(on_eval=stop))

    config = configured(checkpoints=("last", "val_selected", "best_on_test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "train", stopped)
        assert run_protocol(config, str(workdir)) == 143
    assert not list(workdir.rglob(FILE)) and not (workdir / "table.md").exists()
    assert run_protocol(config, str(workdir)) == 0
    return workdir


def record_of(workdir, row="full"):
    folder = workdir / "runs" / row / "fake_hash_0" / "seed0"
    return folder, Record.load(folder / FILE)


def test_each_run_has_its_record_scores_and_provenance(done):
    for row in ("full", "no_bad_ones"):
        folder, record = record_of(done, row)
        assert list(record.reports) == ["last", "val_selected", "best_on_test"]
        scores = load_scores(folder, "fake test")
        for name, reports in record.reports.items():
            report = reports["fake test"]
            assert report.n == len(scores.image) == record.run.split.counts["test"]
            assert report.metrics["srcc"] == srcc(scores.predicted[name], scores.mos)
            assert len(report.intervals["srcc"]) == 2 and reports["other"].n == 12
        made = record.provenance
        assert made["versions"]["jax"] and made["hardware"]["devices"] == 8 and made["wall_seconds"] > 0
        assert made["view"]["tile"] == 64 and len(made["init"]["sha256"]) == 64
        assert record.checkpoints["last"]["step"] == 5 and len(record.checkpoints["last"]["sha256"]) == 64
        lines = [json.loads(line) for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]
        best = max((line for line in lines if "val_srcc" in line), key=lambda line: line["val_srcc"])
        assert record.checkpoints["val_selected"]["step"] == best["step"]


def test_the_pages_hold_all_rows_with_provenance_and_figures(done):
    text = (done / "table.md").read_text()
    for said in ("| full (last) | fake test |", "| no bad ones (val_selected) | other |", "| no bad ones - full |"):
        assert said in text
    for said in (
        "best_on_test was selected on the pictures",
        "split: fake hash 0, sha256",
        "each picture resized to 80",
    ):
        assert said in text
    assert r"\begin{tabular}" in (done / "table.tex").read_text() and (done / "table.csv").exists()
    with (done / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2 and all(len(row["weights_sha256"]) == 64 for row in rows)
    figures = {file.name for file in (done / "figures").iterdir()}
    assert {"full_fake_test.png", "full_fake_test_bars.png", "no_bad_ones_other.png"} <= figures


def test_what_is_done_is_not_done_again_and_what_changed_is_refused(done, configured, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(done, workdir)
    monkeypatch.setattr(runner, "train_run", lambda *args: pytest.fail("a run was done again"))
    checkpoints = ("last", "val_selected", "best_on_test")
    assert run_protocol(configured(checkpoints=checkpoints), str(workdir)) == 0
    changed = configured(checkpoints=checkpoints, **{"base.optim.lr": 1.0})
    assert run_protocol(changed, str(workdir)) == 1
    assert "another configuration (it differs in config.optim.lr)" in capsys.readouterr().err


def test_a_rerun_gives_the_same_digits_or_says_what_differs(done, tmp_path, capsys):
    folder, record = record_of(done)
    assert rerun(str(folder / FILE), str(tmp_path / "again")) == 0
    assert "the same to the last digit" in capsys.readouterr().out
    other = tmp_path / "other"
    other.mkdir()
    values = json.loads((folder / FILE).read_text())
    values["reports"]["last"]["other"]["metrics"]["srcc"] += 1e-12
    (other / FILE).write_text(json.dumps(values))
    for file in folder.glob("*.csv"):
        shutil.copy(file, other)
    lines = (other / "scores_other.csv").read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([cells[0], repr(float(cells[1]) + 1e-12), *cells[2:]])
    (other / "scores_other.csv").write_text("\n".join(lines) + "\n")
    assert rerun(str(other / FILE), str(tmp_path / "again")) == 1
    said = capsys.readouterr().out.splitlines()
    assert (
        len(said) == 2
        and "last.other.metrics.srcc was" in said[0]
        and f"1 of 12 scores differ, most that of {cells[0]}" in said[1]
    )
    with pytest.raises(UserError, match="holds the run itself"):
        rerun(str(folder / FILE), str(folder))


def test_a_run_that_fails_is_reported_and_the_others_go_on(configured, tmp_path, monkeypatch, capsys):
    def tested(run, folder, parts):
        if run.row == "full":
            raise MemoryError("no room\nat all")
        value = {"no bad ones": 0.5, "bad": np.nan}[run.row]
        said = {"view": {}, "init": {}}
        return models.Predictors(
            {"last": lambda test, part: np.full(len(part), value)}, {"last": {"step": 1, "sha256": "0"}}, said
        )

    monkeypatch.setattr(runner, "train_run", tested)
    rows = (*((name, tuple(changes.items())) for name, changes in ROWS.items()), ("bad", ()))
    config = configured(rows=rows, checkpoints=("last",))
    assert run_protocol(config, str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "failed: full, fake hash 0, seed 0: MemoryError: no room" in said
    assert "failed: bad, fake hash 0, seed 0: fake test: the prediction for fake/" in said and "is nan" in said
    assert "MemoryError" in (tmp_path / "runs" / "full" / "fake_hash_0" / "seed0" / "error.txt").read_text()
    text = (tmp_path / "table.md").read_text()
    assert "| no bad ones | fake test |" in text and "undefined | undefined | undefined | undefined |" in text
    assert "FAILED, not in the table: full" in text and " - " not in text.split("\n\n")[0]


def test_a_training_that_is_not_finite_is_a_run_that_failed(configured, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "train", lambda config, folder, hooks: 1)
    assert run_protocol(configured(checkpoints=("last",)), str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.count("loss or gradients were not finite") == len(ROWS) and "failed: no bad ones" in said


def test_the_best_evaluation_is_the_first_of_the_highest(tmp_path):
    best = Best(tmp_path / "best.safetensors")
    offered = (float("nan"), None, 0.5, 0.7, 0.7, float("nan"))
    for step, (value, kept) in enumerate(zip(offered, (1, 1, 3, 4, 4, 4), strict=True), start=1):
        best.offer(step, {"a": {"kernel": np.full(3, step, np.float32)}}, value)
        assert best.load()[0] == kept
    step, params = Best(tmp_path / "best.safetensors").load()
    assert step == 4 and (params["a"]["kernel"] == 4).all()


def test_weights_as_they_are_are_tested_without_a_training_and_done_again(tmp_path, monkeypatch, capsys):
    scorer = fake_scorer()
    monkeypatch.setattr(models, "load", lambda name, **options: scorer)
    config = default({"lite": {"weights": "lite"}, "other": {"weights": "x.safetensors"}}, OTHER)
    config.test, config.bootstrap, config.seeds = "", 20, (0, 1)
    assert run_protocol(ml_collections.FrozenConfigDict(config), str(tmp_path / "runs")) == 0
    folder = tmp_path / "runs" / "runs" / "lite" / "whole" / "seed0"
    record, scores = Record.load(folder / FILE), load_scores(folder, "other")
    source = Resized(FakeSource(12), 80)
    expected = [result.score / 100 for result in scorer.stream(source.encoded(i) for i in range(12))]
    assert scores.predicted["as it is"].tolist() == expected and scores.mos.tolist() == source.column("mos").tolist()
    assert record.checkpoints == {"as it is": {"sha256": scorer.sha256}} and record.run.split is None
    text = (tmp_path / "runs" / "table.md").read_text()
    assert "| other - lite | other | 12 | 0.000 [0.000, 0.000] within noise |" in text
    assert rerun(str(folder / FILE), str(tmp_path / "again")) == 0
    assert "lite: the same to the last digit: 5 figures, 12 pictures of other" in capsys.readouterr().out
