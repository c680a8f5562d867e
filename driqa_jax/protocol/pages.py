"""The files of a protocol for its readers: tables, a line for each run, figures."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from driqa_jax.evaluation.figures import draw_bars, draw_scatter, save_figure
from driqa_jax.evaluation.report import METRICS
from driqa_jax.evaluation.tables import to_csv, to_latex, to_markdown, to_terminal
from driqa_jax.io import write_whole
from driqa_jax.protocol.plan import PEEKED, Run, slug
from driqa_jax.protocol.record import FILE, Record, load_scores
from driqa_jax.protocol.summary import Summary, summarize


def write_pages(folder: pathlib.Path, runs: Sequence[Run], failed: Mapping[str, str]) -> None:
    """Write table.md, table.csv, table.tex, runs.csv and figures/ of the runs that are done; print the table."""
    done = [run for run in runs if (folder / run.folder / FILE).exists() and run.name not in failed]
    if not done:
        return
    records = [Record.load(folder / run.folder / FILE) for run in done]
    summary = summarize(folder, done, runs[0].row)
    notes = [*_notes(summary, records), *(f"FAILED, not in the table: {name}: {why}" for name, why in failed.items())]
    write_whole(folder / "table.csv", to_csv(summary).encode())
    commented = "".join(f"% {line}\n" for line in notes)
    write_whole(folder / "table.tex", (commented + to_latex(summary)).encode())
    listed = "".join(f"- {line}\n" for line in notes)
    write_whole(folder / "table.md", f"{to_markdown(summary)}\n{listed}".encode())
    write_whole(folder / "runs.csv", _lines(records).encode())
    _draw(folder, records)
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(summary))


def _notes(summary: Summary, records: Sequence[Record]) -> Iterator[str]:
    """What one has to know to read the table: what the figures are, and where they come from."""
    runs = len(records)
    yield f"{runs} run{'s' if runs > 1 else ''}; splits {summary.split}."
    if runs > 1:
        yield (
            "Medians over splits and seeds; after ± the standard deviation over splits (of the medians over seeds), or "
            "over the seeds of a single split."
        )
    yield "In brackets the 95 % interval of a bootstrap over pictures; a difference is within noise where it holds 0."
    if any(PEEKED in record.checkpoints for record in records):
        yield f"{PEEKED} was chosen on the very pictures that it is tested on: it is no result."
    for name, sha256 in sorted({pair for record in records for pair in _labels(record)}):
        yield f"labels: {name}, sha256 {sha256}"
    for split in _distinct(record.run.split for record in records if record.run.split):
        yield f"split: {split.id}, sha256 {split.sha256}"
    for key in ("view", "versions", "hardware"):
        for values in _distinct(record.provenance[key] for record in records):
            yield f"{key}: {', '.join(f'{name} {value}' for name, value in values.items())}"
    yield (
        f"wall time: {sum(record.provenance['wall_seconds'] for record in records):.0f} s in all; a run's own, and the "
        "sha256 of its weights, stand in runs.csv and in its run.json"
    )


def _labels(record: Record) -> Iterator[tuple[str, str]]:
    for reports in record.reports.values():
        for report in reports.values():
            data = report.provenance["data"]
            height = f", each picture brought to {data['height']} rows" if data["height"] else ""
            files = data["label_files"] or {"scores as compared": data["labels_sha256"]}
            for file, sha256 in files.items():
                yield f"{report.data}: {file}{height}", sha256


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    found.extend(value for value in values if value not in found)
    return found


def _lines(records: Sequence[Record]) -> str:
    """CSV: a line for each run, checkpoint and test."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(
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
                figures = ["undefined" if report.metrics[name] is None else report.metrics[name] for name in METRICS]
                which = [run.row, *split, run.seed, checkpoint, kept.get("step", ""), kept["sha256"], test, report.n]
                labels = report.provenance["data"]["labels_sha256"]
                rows.writerow([*which, *figures, labels, *about, made["wall_seconds"]])
    return file.getvalue()


def _draw(folder: pathlib.Path, records: Sequence[Record]) -> None:
    """Of the first run of each row on each test: scores against MOS, and bars by degradation."""
    seen = set()
    for record in records:
        checkpoint = record.run.checkpoints[0]
        for test, report in record.reports[checkpoint].items():
            if (record.run.row, test) in seen:
                continue
            seen.add((record.run.row, test))
            (folder / "figures").mkdir(exist_ok=True)
            place = folder / "figures" / f"{slug(record.run.row)}_{slug(test)}"
            scores = load_scores(folder / record.run.folder, test)
            title = f"{record.run.name}\non {test}"
            save_figure(draw_scatter(scores.predicted[checkpoint], scores.mos, title), f"{place}.png")
            bars = draw_bars(report)
            if bars is not None:
                save_figure(bars, f"{place}_bars.png")
