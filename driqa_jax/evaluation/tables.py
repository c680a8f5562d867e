"""One table for the terminal, Markdown, CSV and LaTeX. A cell is text, an integer or an estimate."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from driqa_jax import io
from driqa_jax.evaluation.bootstrap import Estimate

if TYPE_CHECKING:
    from rich.table import Table as RichTable

UNDEFINED, NOISE = "undefined", "within noise"
UNDEFINED_INTERVAL = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class RunEstimate(Estimate):
    """An estimate over runs; `interval` is `UNDEFINED_INTERVAL` if resampling did not define the requested one."""

    spread: float | None = None  # standard deviation over runs
    within_noise: bool = False  # a difference whose interval contains 0


Cell = str | int | Estimate


class Table(NamedTuple):
    """Column heads and rows of equal length. CSV can have other column names, and first columns with constants."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    csv_heads: Sequence[str] = ()
    csv_constants: Mapping[str, str] = {}


def shown(cell: Cell, digits: int = 3) -> str:
    """The text of a cell: value, spread, interval in brackets, note."""
    return " ".join(_parts(cell, digits))


def to_terminal(table: Table, digits: int = 3) -> RichTable:
    """A rich table with one line for each part of a cell."""
    from rich.table import Table as RichTable

    made = RichTable(title=table.title)
    for head, kind in zip(table.heads, _kinds(table), strict=True):
        made.add_column(head, justify="left" if kind is str else "right")
    for row in table.rows:
        made.add_row(*("\n".join(_parts(cell, digits)) for cell in row))
    return made


def to_markdown(table: Table, digits: int = 3) -> str:
    """A Markdown table."""
    lines = [table.heads, ["---"] * len(table.heads), *([shown(cell, digits) for cell in row] for row in table.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: Table, digits: int = 3) -> str:
    """A LaTeX tabular for booktabs, with a rule where the first column changes; intervals in small print."""
    align = "".join({str: "l", int: "r"}.get(kind, "c") for kind in _kinds(table))
    lines = [r"\begin{tabular}{" + align + "}", r"\toprule", " & ".join(map(_escaped, table.heads)) + r" \\"]
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if before is None or before[0] != row[0]:
            lines.append(r"\midrule")
        lines.append(" & ".join(_latex_cell(cell, digits) for cell in row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_csv(table: Table, digits: int | None = None) -> str:
    """CSV with full precision. Further columns hold the interval ends (`_low`, `_high`), spreads and notes."""
    heads = table.csv_heads or table.heads
    figures = [i for i, kind in enumerate(_kinds(table)) if issubclass(kind, Estimate)]
    runs = any(isinstance(cell, RunEstimate) for row in table.rows for cell in row)
    spreads = figures if any(_has_spread(row, figures) for row in table.rows) else []
    lines = [
        [*table.csv_constants, *heads, *(f"{heads[i]}_{end}" for i in figures for end in ("low", "high"))]
        + [*(f"{heads[i]}_spread" for i in spreads), *(["within_noise"] if runs else [])]
    ]
    for row in table.rows:
        line = [*table.csv_constants.values(), *(_full(c.value) if isinstance(c, Estimate) else c for c in row)]
        line += [end for i in figures for end in _ends(row[i])]
        line += ["" if not _has_spread(row, figures) else _full(row[i].spread) for i in spreads]
        noise = [heads[i] for i in figures if getattr(row[i], "within_noise", False)]
        lines.append([*line, *([" ".join(noise)] if runs else [])])
    return io.to_csv(lines)


_WRITERS: dict[str, Callable[..., str]] = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}


def check_table(path: str | os.PathLike) -> pathlib.Path:
    """The path, checked before long work. Raises UserError for an unknown extension or a missing folder."""
    return io.require_writable(path, _WRITERS)


def save_table(table: Table, path: str | os.PathLike, digits: int = 3) -> None:
    """Write the table in the format of the extension (.md, .csv, .tex). Raises UserError as `check_table` does."""
    path = check_table(path)
    io.write_text(path, _WRITERS[path.suffix.lower()](table, digits))


def _parts(cell: Cell, digits: int) -> list[str]:
    if not isinstance(cell, Estimate):
        return [str(cell)]
    if cell.value is None:
        return [UNDEFINED]
    parts = [f"{cell.value:.{digits}f}"]
    if isinstance(cell, RunEstimate) and cell.spread is not None:
        parts.append(f"± {cell.spread:.{digits}f}")
    if cell.interval:
        low, high = cell.interval
        parts.append(f"[{UNDEFINED}]" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]")
    if isinstance(cell, RunEstimate) and cell.within_noise:
        parts.append(NOISE)
    return parts


def _latex_cell(cell: Cell, digits: int) -> str:
    value, *rest = map(_escaped, _parts(cell, digits))
    small = " ".join(rest).replace("± ", r"$\pm$\,")
    return value + (rf" {{\scriptsize {small}}}" if small else "")


def _kinds(table: Table) -> list[type]:
    """The type of each column's cells; `Estimate` if one cell is an estimate."""
    columns = zip(*table.rows, strict=True) if table.rows else [[""]] * len(table.heads)
    return [next((Estimate for c in column if isinstance(c, Estimate)), type(column[0])) for column in columns]


def _ends(cell: Any) -> list[str]:
    if not isinstance(cell, Estimate) or cell.interval is None:
        return ["", ""]
    return [UNDEFINED if math.isnan(end) else repr(end) for end in cell.interval]


def _has_spread(row: Sequence[Cell], figures: Sequence[int]) -> bool:
    return any(getattr(row[i], "spread", None) is not None for i in figures)


def _full(value: float | None) -> str:
    return UNDEFINED if value is None else repr(value)


def _escaped(text: str) -> str:
    return "".join("\\" + letter if letter in "_&%#$" else letter for letter in text)
