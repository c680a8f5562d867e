"""A report as a table: on a terminal, as Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
import os
import pathlib
from typing import TYPE_CHECKING

from driqa_jax.atomic import write_whole
from driqa_jax.errors import UserError
from driqa_jax.evaluation.report import METRICS, Part, Report

if TYPE_CHECKING:
    from rich.table import Table

UNDEFINED = "undefined"
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
        cells = [_shown(part, name, 4) + (f"\n{_bounds(part, name, 3)}" if part.intervals else "") for name in METRICS]
        table.add_row(*([whose] if several else []), pictures, str(part.n), *cells)
    return table


def to_markdown(report: Report) -> str:
    """A Markdown table; intervals in brackets."""
    lines = [
        "| scores | pictures | n | " + " | ".join(_HEADS.values()) + " |",
        "|---|---|" + "---|" * (1 + len(METRICS)),
    ]
    for whose, pictures, part in report.rows():
        cells = [f"{_shown(part, name, 3)} {_bounds(part, name, 3)}".strip() for name in METRICS]
        lines.append(f"| {whose} | {pictures} | {part.n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_csv(report: Report) -> str:
    """CSV, figures in full; the ends of the intervals in columns of their own."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    ends = [f"{name}_{end}" for name in METRICS for end in ("low", "high")]
    rows.writerow(["data", "split", "scores", "pictures", "n", *METRICS, *ends])
    for whose, pictures, part in report.rows():
        figures = [UNDEFINED if part.metrics[name] is None else repr(part.metrics[name]) for name in METRICS]
        bounds = [cell for name in METRICS for cell in _cells(part, name)]
        rows.writerow([report.data, report.split, whose, pictures, part.n, *figures, *bounds])
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
            bounds = _bounds(part, name, 3)
            cells.append(_shown(part, name, 3) + (rf" {{\scriptsize {bounds}}}" if bounds else ""))
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


def _shown(part: Part, name: str, digits: int) -> str:
    value = part.metrics[name]
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _bounds(part: Part, name: str, digits: int) -> str:
    if not part.intervals or part.metrics[name] is None:
        return ""
    pair = part.intervals[name]
    return f"[{UNDEFINED}]" if pair is None else f"[{pair[0]:.{digits}f}, {pair[1]:.{digits}f}]"


def _cells(part: Part, name: str) -> list[str]:
    if not part.intervals:
        return ["", ""]
    pair = part.intervals[name]
    return [UNDEFINED] * 2 if pair is None else [repr(end) for end in pair]


def escaped(text: str) -> str:
    """Text fit for LaTeX."""
    return "".join("\\" + letter if letter in "_&%#$" else letter for letter in text)
