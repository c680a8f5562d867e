"""The pages of a protocol: a table of medians, intervals, spread and differences on the same images; figures."""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.figures import draw_bars, draw_scatter, save_figure
from driqa_jax.evaluation.report import METRICS, Gap, Part, measure, report_table, subtract
from driqa_jax.evaluation.tables import UNDEFINED, Table, save_table, to_latex, to_markdown, to_terminal
from driqa_jax.io import make_folder, to_csv, write_text
from driqa_jax.protocol.plan import PEEKED, Run, slug
from driqa_jax.protocol.record import FILE, Record, Scores, load_scores


def write_pages(folder: pathlib.Path, runs: Sequence[Run], failed: Mapping[str, str]) -> None:
    """Write table.md, table.csv, table.tex, runs.csv and figures/ of the finished runs; print the table."""
    done = [run for run in runs if (folder / run.folder / FILE).exists() and run.name not in failed]
    if not done:
        return
    records = [Record.load(folder / run.folder / FILE) for run in done]
    summary = summarize(folder, done, runs[0].row)
    table = summary.table()
    notes = [*_notes(summary, records), *(f"FAILED, not in the table: {name}: {why}" for name, why in failed.items())]
    save_table(table, folder / "table.csv")
    write_text(folder / "table.tex", "".join(f"% {line}\n" for line in notes) + to_latex(table))
    write_text(folder / "table.md", f"{to_markdown(table)}\n" + "".join(f"- {line}\n" for line in notes))
    write_text(folder / "runs.csv", to_csv(_run_rows(records)))
    _draw(folder, records)
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table))


def _notes(summary: Summary, records: Sequence[Record]) -> Iterator[str]:
    """How to read the table, and the provenance of its numbers."""
    runs = len(records)
    yield f"{runs} run{'s' if runs > 1 else ''}; splits {summary.split}."
    if runs > 1:
        yield (
            "Medians over splits and seeds; after ± the standard deviation over splits (of the medians over seeds), or "
            "over the seeds of a single split."
        )
    yield "In brackets: 95 % bootstrap interval over pictures. A difference is within noise if its interval contains 0."
    if any(PEEKED in record.checkpoints for record in records):
        yield f"{PEEKED} was selected on the pictures that it is tested on; do not report it as a result."
    for name, sha256 in sorted({pair for record in records for pair in _labels(record)}):
        yield f"labels: {name}, sha256 {sha256}"
    for split in _distinct(record.run.split for record in records if record.run.split):
        yield f"split: {split.id}, sha256 {split.sha256}"
    for key in ("view", "versions", "hardware"):
        for values in _distinct(record.provenance[key] for record in records):
            yield f"{key}: {', '.join(f'{name} {value}' for name, value in values.items())}"
    seconds = sum(record.provenance["wall_seconds"] for record in records)
    yield f"wall time: {seconds:.0f} s in total; runs.csv and each run.json have the time and weights sha256 of a run"


def _labels(record: Record) -> Iterator[tuple[str, str]]:
    for reports in record.reports.values():
        for report in reports.values():
            data = report.provenance["data"]
            height = f", each picture resized to {data['height']} rows" if data["height"] else ""
            files = data["label_files"] or {"scores as compared": data["labels_sha256"]}
            for file, sha256 in files.items():
                yield f"{report.data}: {file}{height}", sha256


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    distinct.extend(value for value in values if value not in distinct)
    return distinct


def _run_rows(records: Sequence[Record]) -> Iterator[list[Any]]:
    """A head, then one row for each run, checkpoint and test set."""
    yield (
        ["row", "split", "split_sha256", "seed", "checkpoint", "step", "weights_sha256", "test", "n", *METRICS]
        + ["labels_sha256", "view", "versions", "hardware", "wall_seconds"]
    )
    for record in records:
        run, made = record.run, record.provenance
        split = (run.split.id, run.split.sha256) if run.split else ("", "")
        about = [json.dumps(made[key]) for key in ("view", "versions", "hardware")]
        for checkpoint, reports in record.reports.items():
            kept = record.checkpoints[checkpoint]
            for test, report in reports.items():
                metrics = [UNDEFINED if report.metrics[name] is None else report.metrics[name] for name in METRICS]
                which = [run.row, *split, run.seed, checkpoint, kept.get("step", ""), kept["sha256"], test, report.n]
                labels = report.provenance["data"]["labels_sha256"]
                yield [*which, *metrics, labels, *about, made["wall_seconds"]]


def _draw(folder: pathlib.Path, records: Sequence[Record]) -> None:
    """For the first run of each row on each test set: scores against MOS, and bars by degradation."""
    drawn = set()
    for record in records:
        checkpoint = record.run.checkpoints[0]
        for test, report in record.reports[checkpoint].items():
            if (record.run.row, test) in drawn:
                continue
            drawn.add((record.run.row, test))
            stem = make_folder(folder / "figures") / f"{slug(record.run.row)}_{slug(test)}"
            scores = load_scores(folder / record.run.folder, test)
            title = f"{record.run.name}\non {test}"
            save_figure(draw_scatter(scores.predicted[checkpoint], scores.mos, title), f"{stem}.png")
            if (bars := draw_bars(report)) is not None:
                save_figure(bars, f"{stem}_bars.png")


class Summary(NamedTuple):
    """The rows of a table as in `driqa_jax.evaluation.report.Report.rows`: source of the scores, images, metrics."""

    data: str
    split: str
    rows: Sequence[tuple[str, str, Part]]

    def table(self) -> Table:
        """The rows as a table."""
        return report_table(self.data, self.split, self.rows)


class _Result(NamedTuple):
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
        for kind in ("", "novel"):  # all images, and those with no near duplicate in another split
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
    rows = scores.novel if kind else np.ones(len(scores.mos), bool)
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
