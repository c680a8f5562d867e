"""Repeat a finished run from its record, and compare all numbers."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import traverse_util

from driqa_jax.distributed import use_cores
from driqa_jax.errors import UserError
from driqa_jax.protocol.execute import execute_run
from driqa_jax.protocol.plan import DataSets
from driqa_jax.protocol.record import FILE, Record, load_scores, plain_values, scores_file


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
        use_cores(made_on["devices"])
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
        if not scores_file(first, test.name).exists():
            yield f"{test.name}: {scores_file(first, test.name)} is missing; its pictures were not compared"
            continue
        one, two = load_scores(first, test.name), load_scores(second, test.name)
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
    reports = {
        name: {test: plain_values(report) for test, report in tests.items()} for name, tests in record.reports.items()
    }
    return {**reports, "bootstrap": record.provenance["bootstrap"], "view": record.provenance["view"]}


def _different(one: Any, two: Any) -> dict[str, tuple[Any, Any]]:
    """Leaves of nested mappings that differ, by dotted name."""
    flat = [traverse_util.flatten_dict({"": values}, sep=".") for values in (one, two)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    return {k.lstrip("."): (a, b) for k in keys if (a := flat[0].get(k)) != (b := flat[1].get(k))}
