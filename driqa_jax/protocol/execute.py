"""One run, from plan to record: train, select checkpoints, test them."""

from __future__ import annotations

import pathlib
import time

import numpy as np

from driqa_jax.data.source import Source, labels_sha256
from driqa_jax.data.splits import novel, select
from driqa_jax.errors import UserError, user_errors
from driqa_jax.evaluation.bootstrap import LEVEL
from driqa_jax.evaluation.report import Report, make_report
from driqa_jax.protocol import ridge
from driqa_jax.protocol.models import fixed_model, train_run
from driqa_jax.protocol.plan import DataSets, Run, TestSet
from driqa_jax.protocol.record import FILE, Record, Scores, claim_folder, load_state, save_scores, save_state
from driqa_jax.provenance import hardware, versions


def execute_run(run: Run, folder: pathlib.Path, sets: DataSets) -> int:
    """Execute or resume a run and save its record in `folder`; a finished run is not repeated.

    Returns the exit code of the training: 0, or 130 or 143 if a signal stopped it after saving its state.

    Raises UserError: the folder holds another run, data cannot be read, or a prediction is not finite.
    """
    claim_folder(run, folder)
    if (folder / FILE).exists():
        return 0
    start, before = time.monotonic(), load_state(folder).get("seconds", 0.0)

    def seconds():
        return round(before + time.monotonic() - start, 1)

    parts = {test: _images(run, test, sets) for test in run.tests}
    if run.weights:
        model = fixed_model(run.weights)
    elif run.baseline:
        model = ridge.fitted(run, sets)
    else:
        model = train_run(run, folder, {test: part for test, (part, _) in parts.items()})
        if model.code:
            save_state(folder, seconds=seconds())
            return model.code
    reports: dict[str, dict[str, Report]] = {name: {} for name in run.checkpoints}
    for test, (part, is_novel) in parts.items():
        predicted = {name: _finite(test, part, model.predict[name](test, part)) for name in run.checkpoints}
        mos = part.column("mos").astype(np.float64)
        for name, values in predicted.items():
            reports[name][test.name] = _report(run, test, part, values, mos, is_novel)
        save_scores(folder, test.name, Scores(part.column("image_id"), mos, is_novel, predicted))
    provenance = {
        **model.provenance,
        "bootstrap": {"resamples": run.bootstrap, "seed": 0, "level": LEVEL},
        "versions": versions(),
        "hardware": hardware(),
        "wall_seconds": seconds(),
    }
    Record(run, model.checkpoints, reports, provenance).save(folder)
    return 0


def _images(run: Run, test: TestSet, sets: DataSets) -> tuple[Source, np.ndarray]:
    """The images of a test set, and (N,) bool: no member of its group is in another split."""
    source = sets.open(run.config["data"] if test.data is None else test.data, test.height)
    if test.data is None and run.split:
        source = run.split.assigned(source)
    with user_errors():
        part = select(source, test.part, run.seed)
    unscored = np.flatnonzero(~np.isfinite(part.column("mos")))
    if len(unscored):
        raise UserError(f"{test.name}: {part.column('image_id')[unscored[0]]} has no score ({len(unscored)} such)")
    return part, novel(source, part) if len(set(source.column("split"))) > 1 else np.ones(len(part), bool)


def _report(
    run: Run, test: TestSet, part: Source, predicted: np.ndarray, mos: np.ndarray, is_novel: np.ndarray
) -> Report:
    provenance = {
        "labels_sha256": labels_sha256(part),
        "label_files": dict(part.label_files),
        "height": test.height,
        "canvas": list(test.canvas),
    }
    return make_report(
        predicted,
        mos,
        data=part.name.removesuffix(f":{test.part}"),
        split=test.part,
        provenance={"model": run.row, "data": provenance},
        subset=part.column("subset"),
        novel=is_novel,
        degradation=part.column("degradation"),
        draws=run.bootstrap,
    )


def _finite(test: TestSet, part: Source, predicted: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(predicted))
    if len(wrong):
        name = part.column("image_id")[wrong[0]]
        raise UserError(f"{test.name}: the prediction for {name} is {predicted[wrong[0]]} ({len(wrong)} such)")
    return predicted
