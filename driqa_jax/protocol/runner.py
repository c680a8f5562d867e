"""A protocol of trainings: run after run, then the tables of all finished runs; and the repetition of one run."""

import math
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from driqa_jax import distributed
from driqa_jax.data.source import Source, labels_sha256
from driqa_jax.data.splits import novel, select
from driqa_jax.errors import UserError, user_errors
from driqa_jax.evaluation.bootstrap import LEVEL
from driqa_jax.evaluation.report import Report, make_report
from driqa_jax.io import make_folder, write_text
from driqa_jax.protocol import record as saved
from driqa_jax.protocol.models import fit_ridge, fixed_model, train_run
from driqa_jax.protocol.plan import DataSets, Run, TestSet, make_plan
from driqa_jax.protocol.record import FILE, Record, Scores
from driqa_jax.protocol.summary import write_pages
from driqa_jax.provenance import hardware, versions
from driqa_jax.train.auxiliary.registry import group_size


def run_protocol(config: ConfigDict, workdir: str) -> int:
    """Execute the unfinished runs of a protocol (see `driqa_jax.protocol.config.default`) and write its tables.

    Returns 0, 1 if a run failed (the others are finished), 130 or 143 if a signal stopped it. Raises UserError for an
    invalid configuration.
    """
    if config.get("kind") != "training":
        raise UserError(
            f"config.kind must be 'training', got {config.get('kind')!r}. The study of restored images runs from a "
            "checkout of the repository: python -m experiments.restored_images"
        )
    sets = DataSets()
    runs = make_plan(config, sets)
    trained = [ConfigDict(dict(run.config)) for run in runs if not run.weights]
    devices = [distributed.side_by_side(each.batch_size, group_size(each)) for each in trained]
    if devices:
        distributed.use_cores(config.cpu_devices or math.gcd(*devices))
    folder, failed = make_folder(workdir), {}
    for number, run in enumerate(runs, start=1):
        print(f"run {number} of {len(runs)}: {run.name}", file=sys.stderr, flush=True)
        code, error = attempt(run, folder / run.folder, sets)
        if code:
            return code
        if error:
            failed[run.name] = error
            print(f"failed: {run.name}: {error}", file=sys.stderr, flush=True)
    write_pages(folder, runs, failed)
    return 1 if failed else 0


def attempt(run: Run, folder: pathlib.Path, sets: DataSets) -> tuple[int, str]:
    """The exit code of a stopped run or 0, and the reason of a failure or "". An unexpected error goes to error.txt."""
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        return execute_run(run, folder, sets), ""
    except UserError as error:
        return 0, " ".join(str(error).split())
    except Exception as error:  # for example out of memory or a full disk: the other runs may still succeed
        write_text(make_folder(folder) / "error.txt", traceback.format_exc())
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        return 0, " ".join(f"{first} (all of it in {folder / 'error.txt'})".split())


def execute_run(run: Run, folder: pathlib.Path, sets: DataSets) -> int:
    """Execute or resume a run and save its record in `folder`; a finished run is not repeated.

    Returns the exit code of the training: 0, or 130 or 143 if a signal stopped it after saving its state.

    Raises UserError: the folder holds another run, data cannot be read, or a prediction is not finite.
    """
    saved.claim_folder(run, folder)
    if (folder / FILE).exists():
        return 0
    start, before = time.monotonic(), saved.load_state(folder).get("seconds", 0.0)

    def seconds():
        return round(before + time.monotonic() - start, 1)

    parts = {test: _images(run, test, sets) for test in run.tests}
    if run.weights:
        model = fixed_model(run.weights)
    elif run.baseline:
        model = fit_ridge(run, sets)
    else:
        model = train_run(run, folder, {test: part for test, (part, _) in parts.items()})
    if model.code:
        saved.save_state(folder, seconds=seconds())
        return model.code
    reports: dict[str, dict[str, Report]] = {name: {} for name in run.checkpoints}
    for test, (part, is_novel) in parts.items():
        predicted = {name: _finite(test, part, model.predict[name](test, part)) for name in run.checkpoints}
        scores = Scores(part.column("image_id"), part.column("mos").astype(np.float64), is_novel, predicted)
        for name in run.checkpoints:
            reports[name][test.name] = _report(run, test, part, scores, name)
        saved.save_scores(folder, test.name, scores)
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


def _report(run: Run, test: TestSet, part: Source, scores: Scores, checkpoint: str) -> Report:
    provenance = {
        "labels_sha256": labels_sha256(part),
        "label_files": dict(part.label_files),
        "height": test.height,
        "canvas": list(test.canvas),
    }
    return make_report(
        scores.predicted[checkpoint],
        scores.mos,
        data=part.name.removesuffix(f":{test.part}"),
        split=test.part,
        provenance={"model": run.row, "data": provenance},
        subset=part.column("subset"),
        novel=scores.novel,
        degradation=part.column("degradation"),
        draws=run.bootstrap,
    )


def _finite(test: TestSet, part: Source, predicted: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(predicted))
    if len(wrong):
        name = part.column("image_id")[wrong[0]]
        raise UserError(f"{test.name}: the prediction for {name} is {predicted[wrong[0]]} ({len(wrong)} such)")
    return predicted


def rerun(file: str, workdir: str) -> int:
    """Repeat the run of a record in `workdir`, on the same number of CPU devices, and print the differences.

    Returns 0 if every number is identical, 1 if one differs, 130 or 143 if a signal stopped it. Raises UserError as a
    run does.
    """
    before = Record.load(pathlib.Path(file))
    folder = pathlib.Path(workdir)
    if folder.resolve() == pathlib.Path(file).resolve().parent:
        raise UserError(f"--workdir {workdir} holds the run itself; give a rerun another folder")
    made_on = before.provenance["hardware"]
    if made_on["platform"] == "cpu":
        distributed.use_cores(made_on["devices"])
    code = execute_run(before.run, folder, DataSets())
    if code:
        return code
    after = Record.load(folder / FILE)
    lines = list(differences(before, pathlib.Path(file).parent, after, folder))
    if not lines:
        figures = sum(len(report.metrics) for reports in after.reports.values() for report in reports.values())
        images = sum(report.n for report in after.reports[after.run.checkpoints[0]].values())
        on = ", ".join(test.name for test in before.run.tests)
        print(f"{before.run.name}: the same to the last digit: {figures} figures, {images} pictures of {on}")
    for line in lines:
        print(f"{before.run.name}: {line}")
    for key in ("versions", "hardware", "init"):
        for name, (one, two) in _different(before.provenance.get(key), after.provenance.get(key)).items():
            print(f"note: {key} {name} was {one}, is {two}", file=sys.stderr)
    return 1 if lines else 0


def differences(before: Record, first: pathlib.Path, after: Record, second: pathlib.Path) -> Iterator[str]:
    """Differences between two records of one run, in two folders: weights, labels, metrics, scores of images."""
    for name, (one, two) in _different(before.checkpoints, after.checkpoints).items():
        yield f"checkpoint {name} was {one}, is {two}"
    for name, (one, two) in _different(_results(before), _results(after)).items():
        yield f"{name} was {one}, is {two}"
    for test in before.run.tests:
        if not saved.scores_file(first, test.name).exists():
            yield f"{test.name}: {saved.scores_file(first, test.name)} is missing; its pictures were not compared"
            continue
        one, two = saved.load_scores(first, test.name), saved.load_scores(second, test.name)
        if one.image.tolist() != two.image.tolist():
            yield f"{test.name}: other pictures, {len(one.image)} then and {len(two.image)} now"
            continue
        for name, values in one.predicted.items():
            gap = np.abs(values - two.predicted[name])
            if gap.any():
                worst = gap.argmax()
                yield (
                    f"{test.name}, {name}: {(gap > 0).sum()} of {len(gap)} scores differ, most that of "
                    f"{one.image[worst]}: {values[worst]!r}, now {two.predicted[name][worst]!r}"
                )


def _results(record: Record) -> dict[str, Any]:
    reports = saved.plain_values(record)["reports"]
    return {**reports, "bootstrap": record.provenance["bootstrap"], "view": record.provenance["view"]}


def _different(one: Any, two: Any) -> dict[str, tuple[Any, Any]]:
    """Leaves of nested mappings that differ, by dotted name."""
    flat = [traverse_util.flatten_dict({"": values}, sep=".") for values in (one, two)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    return {k.lstrip("."): (a, b) for k in keys if (a := flat[0].get(k)) != (b := flat[1].get(k))}
