"""Many runs to the rows of one table: medians, their intervals and spread, differences on the same pictures."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.report import METRICS, Gap, Part, measure
from driqa_jax.protocol.plan import Run
from driqa_jax.protocol.record import Scores, load_scores

# Which pictures of a test a row of the table is about.
_PARTS = {"": lambda scores: np.ones(len(scores.mos), bool), "novel": lambda scores: scores.novel}


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `driqa_jax.evaluation.tables` shows; `table`: whose scores, which pictures, figures."""

    data: str
    split: str
    table: Sequence[tuple[str, str, Part]]

    def rows(self) -> Iterator[tuple[str, str, Part]]:
        """As `driqa_jax.evaluation.report.Report.rows`."""
        yield from self.table


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One run on the pictures of one row: figures, and their replicates by name (draws,)."""

    run: Run
    image: tuple[str, ...]
    part: Part
    replicates: dict[str, np.ndarray]


def summarize(folder: pathlib.Path, runs: Sequence[Run], first: str) -> Summary:
    """The table of these finished runs, in their order; differences are taken against the row `first`.

    Of the runs of one row, checkpoint and test the median of each figure; its 95 % interval over resampled pictures
    (the median is taken within each resample); and the spread, the standard deviation over splits of the median over
    seeds, or over the seeds of a single split. Then each other row less the first on the same pictures, run by run,
    with the same resamples. A figure that is undefined in one run is undefined.
    """
    tests = list(dict.fromkeys(test.name for run in runs for test in run.tests))
    scores = {(run.name, name): load_scores(folder / run.folder, name) for run in runs for name in _names(run)}
    rows, gaps = [], []
    for test in tests:
        for kind, chosen in _PARTS.items():
            pictures = f"{test}, {kind}" if kind else test
            reference: list[_Cell] = []
            for row in dict.fromkeys(run.row for run in runs):
                mine = [run for run in runs if run.row == row and test in _names(run)]
                for checkpoint in mine[0].checkpoints if mine else ():
                    cells = [_cell(run, scores[run.name, test], checkpoint, chosen) for run in mine]
                    if kind and not any(cells):
                        continue
                    whole = [cell for cell in cells if cell]
                    several = len(mine[0].checkpoints) > 1
                    rows.append((f"{row} ({checkpoint})" if several else row, pictures, _median(whole, Part)))
                    if checkpoint != mine[0].checkpoints[0]:
                        continue  # differences are of the first checkpoint
                    if row == first:
                        reference = whole
                    elif pairs := _pairs(whole, reference):
                        gaps.append((f"{row} - {first}", pictures, _median(pairs, Gap)))
    splits = list(dict.fromkeys(run.split.id for run in runs if run.split))
    seeds = sorted({run.seed for run in runs})
    said = f"{', '.join(splits) or 'none'}; seeds {', '.join(map(str, seeds))}"
    return Summary(", ".join(tests), said, [*rows, *gaps])


def _names(run: Run) -> list[str]:
    return [test.name for test in run.tests]


def _cell(run: Run, scores: Scores, checkpoint: str, chosen) -> _Cell | None:
    """None where the row is about some of the pictures, and this test has none such, or no others."""
    rows = chosen(scores)
    if not rows.any() or (chosen is not _PARTS[""] and rows.all()):
        return None
    predicted, mos = scores.predicted[checkpoint][rows], scores.mos[rows]
    found = bootstrap.replicates(predicted, mos, run.bootstrap) if run.bootstrap else {}
    return _Cell(run, tuple(scores.image[rows].tolist()), measure(predicted, mos), found)


def _pairs(cells: list[_Cell], reference: list[_Cell]) -> list[_Cell]:
    """Each run less one of the reference on the same pictures: that of the same split and seed, where there is one."""
    found = []
    for cell in cells:
        same = [other for other in reference if other.image == cell.image]
        if not same:
            continue
        other = max(same, key=lambda each: (each.run.split == cell.run.split, each.run.seed == cell.run.seed))
        mine, theirs = cell.part.metrics, other.part.metrics
        metrics = {k: None if None in (mine[k], theirs[k]) else mine[k] - theirs[k] for k in METRICS}
        replicates = {name: cell.replicates[name] - other.replicates[name] for name in cell.replicates}
        found.append(_Cell(cell.run, cell.image, Gap(cell.part.n, metrics), replicates))
    return found


def _median(cells: list[_Cell], kind: type[Part]) -> Part:
    metrics = {name: _over(np.median, [cell.part.metrics[name] for cell in cells]) for name in METRICS}
    intervals = {}
    if all(cell.replicates for cell in cells):
        found = {name: np.median([cell.replicates[name] for cell in cells], axis=0) for name in METRICS}
        pairs = bootstrap.intervals(found)
        intervals = {name: None if metrics[name] is None else pairs[name] for name in METRICS}
    n = int(np.median([cell.part.n for cell in cells]))
    return kind(n, metrics, intervals, {name: _spread(cells, name) for name in METRICS} if len(cells) > 1 else {})


def _spread(cells: list[_Cell], name: str) -> float | None:
    groups: dict[str, list] = {}
    for cell in cells:
        groups.setdefault(cell.run.split.id if cell.run.split else "", []).append(cell.part.metrics[name])
    values = [_over(np.median, group) for group in groups.values()] if len(groups) > 1 else [*groups.values()][0]
    return _over(functools.partial(np.std, ddof=1), values)


def _over(statistic, values) -> float | None:
    return None if None in values else float(statistic(values))
