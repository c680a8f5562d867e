"""Many runs as the rows of one table: medians, intervals, spread, and differences on the same images."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.report import METRICS, Gap, Part, measure, report_table, subtract
from driqa_jax.evaluation.tables import Table
from driqa_jax.protocol.plan import Run
from driqa_jax.protocol.record import Scores, load_scores

# The images of a test set that a table row covers, by the suffix of the row's name.
_PARTS: dict[str, Callable[[Scores], np.ndarray]] = {
    "": lambda scores: np.ones(len(scores.mos), bool),
    "novel": lambda scores: scores.novel,
}


@dataclasses.dataclass(frozen=True)
class Summary:
    """The rows of a table as in `driqa_jax.evaluation.report.Report.rows`: source of the scores, images, metrics."""

    data: str
    split: str
    rows: Sequence[tuple[str, str, Part]]

    def table(self) -> Table:
        """The rows as a table."""
        return report_table(self.data, self.split, self.rows)


@dataclasses.dataclass(frozen=True)
class _Result:
    """One run on the images of one row: metrics, and their replicates by name (draws,)."""

    run: Run
    image: tuple[str, ...]
    part: Part
    replicates: dict[str, np.ndarray]


def summarize(folder: pathlib.Path, runs: Sequence[Run], first: str) -> Summary:
    """The table of finished runs in their order; differences are relative to the row `first`.

    Each metric is the median over the runs of one row, checkpoint and test set. Its 95 % interval comes from resampled
    images (the median is taken within each resample). Its spread is the standard deviation over splits of the median
    over seeds, or over the seeds of a single split. Differences to the first row use the same images and resamples,
    run by run. A metric that is undefined in one run is undefined.
    """
    tests = list(dict.fromkeys(test.name for run in runs for test in run.tests))
    scores = {(run.name, name): load_scores(folder / run.folder, name) for run in runs for name in _names(run)}
    rows, gaps = [], []
    for test in tests:
        for kind in _PARTS:
            images = f"{test}, {kind}" if kind else test
            reference: list[_Result] = []
            for row in dict.fromkeys(run.row for run in runs):
                mine = [run for run in runs if run.row == row and test in _names(run)]
                for checkpoint in mine[0].checkpoints if mine else ():
                    results = [r for run in mine if (r := _result(run, scores[run.name, test], checkpoint, kind))]
                    if not results:
                        continue
                    several = len(mine[0].checkpoints) > 1
                    rows.append((f"{row} ({checkpoint})" if several else row, images, _median(results, Part)))
                    if checkpoint != mine[0].checkpoints[0]:
                        continue  # differences use the first checkpoint
                    if row == first:
                        reference = results
                    elif pairs := _paired(results, reference):
                        gaps.append((f"{row} - {first}", images, _median(pairs, Gap)))
    splits = list(dict.fromkeys(run.split.id for run in runs if run.split))
    seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
    return Summary(", ".join(tests), f"{', '.join(splits) or 'none'}; seeds {seeds}", [*rows, *gaps])


def _names(run: Run) -> list[str]:
    return [test.name for test in run.tests]


def _result(run: Run, scores: Scores, checkpoint: str, kind: str) -> _Result | None:
    """None for a row about a part of the images if this test has none of them, or only them."""
    rows = _PARTS[kind](scores)
    if not rows.any() or (kind and rows.all()):
        return None
    predicted, mos = scores.predicted[checkpoint][rows], scores.mos[rows]
    replicates = bootstrap.replicates(predicted, mos, run.bootstrap) if run.bootstrap else {}
    return _Result(run, tuple(scores.image[rows].tolist()), measure(predicted, mos), replicates)


def _paired(results: list[_Result], reference: list[_Result]) -> list[_Result]:
    """Each run minus a reference run on the same images, preferably of the same split and seed."""
    pairs = []
    for one in results:
        same = [other for other in reference if other.image == one.image]
        if not same:
            continue
        other = max(same, key=lambda each: (each.run.split == one.run.split, each.run.seed == one.run.seed))
        replicates = {name: one.replicates[name] - other.replicates[name] for name in one.replicates}
        pairs.append(_Result(one.run, one.image, Gap(one.part.n, subtract(one.part, other.part)), replicates))
    return pairs


def _median(results: list[_Result], kind: type[Part]) -> Part:
    metrics = {name: _over(np.median, [result.part.metrics[name] for result in results]) for name in METRICS}
    intervals = {}
    if all(result.replicates for result in results):
        medians = {name: np.median([result.replicates[name] for result in results], axis=0) for name in METRICS}
        pairs = bootstrap.intervals(medians)
        intervals = {name: None if metrics[name] is None else pairs[name] for name in METRICS}
    n = int(np.median([result.part.n for result in results]))
    return kind(n, metrics, intervals, {name: _spread(results, name) for name in METRICS} if len(results) > 1 else {})


def _spread(results: list[_Result], name: str) -> float | None:
    groups: dict[str, list] = {}
    for result in results:
        groups.setdefault(result.run.split.id if result.run.split else "", []).append(result.part.metrics[name])
    values = [_over(np.median, group) for group in groups.values()] if len(groups) > 1 else [*groups.values()][0]
    return _over(functools.partial(np.std, ddof=1), values)


def _over(statistic, values) -> float | None:
    return None if None in values else float(statistic(values))
