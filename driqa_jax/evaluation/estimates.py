"""Figures with bootstrap intervals, and tables of them: as Markdown, CSV, LaTeX or on a terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.tables import UNDEFINED, check_table, escaped
from driqa_jax.io import write_whole

if TYPE_CHECKING:
    from rich.table import Table

RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure, None where it is not defined, its 95 % interval, None where there is none, and over how many units."""

    value: float | None
    interval: tuple[float, float] | None = None
    n: int | None = None


def estimate(values: np.ndarray, statistic: Callable = np.mean, seed: int = 0) -> Estimate:
    """A statistic of one value a unit, (N,), units (photographs) being resampled; nan units are left out.

    `statistic` takes `axis`, as numpy's do. Equal N and seed give equal draws, so differences are paired.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(None, None, 0)
    if len(values) == 1:
        return Estimate(float(values[0]), None, 1)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    found = bootstrap.intervals({"": statistic(values[draws], axis=1)})[""]
    return Estimate(float(statistic(values, axis=0)), found, len(values))


Cell = str | int | Estimate


def save_rows(path: str | os.PathLike, heads: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 3) -> None:
    """Write a table as .md, .csv or .tex, as the ending says. Raises UserError as `check_table` does."""
    path = check_table(path)
    kind = path.suffix.lower()
    text = _csv(heads, rows) if kind == ".csv" else (_latex if kind == ".tex" else _markdown)(heads, rows, digits)
    write_whole(path, text.encode())


def rows_to_terminal(title: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 3) -> Table:
    """A rich table."""
    from rich.table import Table

    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*(shown(cell, digits) for cell in row))
    return table


def shown(cell: Cell, digits: int = 3) -> str:
    """A cell as text, an interval in brackets."""
    if not isinstance(cell, Estimate):
        return str(cell)
    if cell.value is None:
        return UNDEFINED
    ends = "" if cell.interval is None else f" [{cell.interval[0]:.{digits}f}, {cell.interval[1]:.{digits}f}]"
    return f"{cell.value:.{digits}f}{ends}"


def _markdown(heads, rows, digits):
    lines = [heads, ["---"] * len(heads), *([shown(cell, digits) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(heads, rows, digits):
    lines = [r"\begin{tabular}{" + "l" * len(heads) + "}", r"\toprule", " & ".join(map(escaped, heads)) + r" \\"]
    lines += [r"\midrule", *(" & ".join(escaped(shown(cell, digits)) for cell in row) + r" \\" for row in rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _csv(heads, rows):
    """Figures in full; the ends of an interval in columns of their own."""
    wide = [any(isinstance(row[i], Estimate) for row in rows) for i in range(len(heads))]
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow([x for h, w in zip(heads, wide, strict=True) for x in ([h, f"{h}_low", f"{h}_high"] if w else [h])])
    for row in rows:
        cells = []
        for cell, several in zip(row, wide, strict=True):
            if not isinstance(cell, Estimate):
                cells += [cell, "", ""] if several else [cell]
                continue
            ends = ["", ""] if cell.interval is None else [repr(end) for end in cell.interval]
            cells += [UNDEFINED if cell.value is None else repr(cell.value), *ends]
        out.writerow(cells)
    return file.getvalue()
