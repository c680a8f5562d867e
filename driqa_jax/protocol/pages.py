"""The tables, run list and figures of a protocol."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from driqa_jax.evaluation.figures import draw_bars, draw_scatter, save_figure
from driqa_jax.evaluation.report import METRICS
from driqa_jax.evaluation.tables import UNDEFINED, save_table, to_latex, to_markdown, to_terminal
from driqa_jax.io import make_folder, to_csv, write_text
from driqa_jax.protocol.plan import PEEKED, Run, slug
from driqa_jax.protocol.record import FILE, Record, load_scores
from driqa_jax.protocol.summary import Summary, summarize


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
            bars = draw_bars(report)
            if bars is not None:
                save_figure(bars, f"{stem}_bars.png")
