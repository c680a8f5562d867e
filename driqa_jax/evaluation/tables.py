"""A report as a table: on a terminal, as Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
import os
import pathlib
from typing import TYPE_CHECKING

from driqa_jax.errors import UserError
from driqa_jax.evaluation.report import METRICS, Part, Report
from driqa_jax.io import write_whole

if TYPE_CHECKING:
    from rich.table import Table

UNDEFINED, NOISE = "undefined", "within noise"
_HEADS = {"srcc": "SRCC", "krcc": "KRCC", "plcc": "PLCC", "plcc_fitted": "PLCC, fitted", "rmse": "RMSE"}


def to_terminal(report: Report) -> Table:
    """A rich table: a row for the whole split, then one for each part; intervals below the figures."""
    from rich.table import Table

    several = len({whose for whose, _, _ in report.rows()}) > 1
    table = Table(
        *(["scores"] if several else []), "pictures", "n", *METRICS, title=f"{report.data}, split {report.split}"
    )
    for column in table.columns[1 + several :]:
        column.justify = "right"
    for whose, pictures, part in report.rows():
        cells = ["\n".join(_said(part, name, 4)) for name in METRICS]
        table.add_row(*([whose] if several else []), pictures, str(part.n), *cells)
    return table


def to_markdown(report: Report) -> str:
    """A Markdown table; intervals in brackets."""
    lines = [
        "| scores | pictures | n | " + " | ".join(_HEADS.values()) + " |",
        "|---|---|" + "---|" * (1 + len(METRICS)),
    ]
    for whose, pictures, part in report.rows():
        cells = [" ".join(_said(part, name, 3)) for name in METRICS]
        lines.append(f"| {whose} | {pictures} | {part.n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_csv(report: Report) -> str:
    """CSV, figures in full; the ends of the intervals in columns of their own."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    ends = [f"{name}_{end}" for name in METRICS for end in ("low", "high")]
    found = list(report.rows())
    spreads = [f"{name}_spread" for name in METRICS] if any(part.spread for *_, part in found) else []
    rows.writerow(["data", "split", "scores", "pictures", "n", *METRICS, *ends, *spreads, "within_noise"])
    for whose, pictures, part in found:
        figures = [_full(part.metrics[name]) for name in METRICS]
        bounds = [cell for name in METRICS for cell in _cells(part, name)]
        spread = [_full(part.spread[name]) if part.spread else "" for name in METRICS] if spreads else []
        noise = " ".join(name for name in METRICS if part.within_noise(name))
        rows.writerow([report.data, report.split, whose, pictures, part.n, *figures, *bounds, *spread, noise])
    return file.getvalue()


def to_latex(report: Report) -> str:
    """A LaTeX tabular for booktabs; intervals in small print."""
    lines = [r"\begin{tabular}{llr" + "c" * len(METRICS) + "}", r"\toprule"]
    lines.append(" & ".join(["Scores", "Pictures", "$n$", *_HEADS.values()]) + r" \\")
    before = None
    for whose, pictures, part in report.rows():
        if whose != before:
            lines.append(r"\midrule")
        before = whose
        cells = []
        for name in METRICS:
            value, *rest = _said(part, name, 3)
            rest = " ".join(rest).replace("± ", r"$\pm$\,")
            cells.append(value + (rf" {{\scriptsize {rest}}}" if rest else ""))
        lines.append(" & ".join([escaped(whose), escaped(pictures), str(part.n), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


_KINDS = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}


def check_table(path: str | os.PathLike) -> pathlib.Path:
    """The path of a table, fit to be written to. Raises UserError for another ending or a missing folder."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _KINDS:
        raise UserError(f"{path}: the ending of a table must be one of {', '.join(_KINDS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def save_table(report: Report, path: str | os.PathLike) -> None:
    """Write the table to `path` in the format that its ending names. Raises as `check_table`."""
    path = check_table(path)
    write_whole(path, _KINDS[path.suffix.lower()](report).encode())


def _said(part: Part, name: str, digits: int) -> list[str]:
    """A figure, and what is known of it: its spread, its interval, whether a difference is within noise."""
    value = part.metrics[name]
    if value is None:
        return [UNDEFINED]
    said = [f"{value:.{digits}f}"]
    if part.spread:
        said.append(f"± {part.spread[name]:.3f}")
    if part.intervals:
        pair = part.intervals[name]
        said.append(f"[{UNDEFINED}]" if pair is None else f"[{pair[0]:.3f}, {pair[1]:.3f}]")
    if part.within_noise(name):
        said.append(NOISE)
    return said


def _full(value: float | None) -> str:
    return UNDEFINED if value is None else repr(value)


def _cells(part: Part, name: str) -> list[str]:
    if not part.intervals:
        return ["", ""]
    pair = part.intervals[name]
    return [UNDEFINED] * 2 if pair is None else [repr(end) for end in pair]


def escaped(text: str) -> str:
    """Text fit for LaTeX."""
    return "".join("\\" + letter if letter in "_&%#$" else letter for letter in text)
