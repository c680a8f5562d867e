"""The examination of a score's order: figures with intervals, rows of a table, bars by type."""

from __future__ import annotations

import dataclasses

import numpy as np
from matplotlib.figure import Figure

from driqa_jax.degradations.recipes import BADLY_RESTORED
from driqa_jax.evaluation.estimates import Estimate, estimate
from driqa_jax.evaluation.order import CHANGES, ORDERED, Order, right_against, right_pairs

ALL = "all"


@dataclasses.dataclass(frozen=True)
class OrderReport:
    """Means over photographs, resampled.

    order: share of adjacent levels ranked right, by type and of "all" types. restored: share of bad restorations that
    score lower than the pristine photograph, likewise. stability: median of the score's change, points, by change.
    """

    order: dict[str, Estimate]
    restored: dict[str, Estimate]
    stability: dict[str, Estimate]

    def rows(self) -> list[list]:
        """Rows of a table: examination, of what, figure."""
        parts = (("order", self.order), ("pristine over badly restored", self.restored), ("change", self.stability))
        return [[part, name, figure] for part, figures in parts for name, figure in figures.items()]


HEADS = ("examination", "of", "figure")


def make_order_report(found: Order) -> OrderReport:
    """The figures of an examination."""
    pairs, against = right_pairs(found.levels), right_against(found.pristine, found.restored)
    return OrderReport(
        {ALL: estimate(pairs.mean(axis=0)), **_by(ORDERED, pairs)},
        {ALL: estimate(against.mean(axis=0)), **_by(BADLY_RESTORED, against)},
        {name: estimate(np.abs(row), np.median) for name, row in zip(CHANGES, found.changes, strict=True)},
    )


def _by(names, rows):
    return {name: estimate(row) for name, row in zip(names, rows, strict=True)}


def order_figure(report: OrderReport, title: str) -> Figure:
    """A bar for each type, the best above, with its interval; bad restorations below."""
    groups = [
        sorted(((name, e) for name, e in part.items() if name != ALL), key=lambda pair: -(pair[1].value or 0))
        for part in (report.order, report.restored)
    ]
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    row, places, labels = 0, [], []
    for bars, color, of_all in zip(groups, ("#33658a", "#c8553d"), (report.order, report.restored), strict=True):
        for name, figures in bars:
            if figures.value is None:
                axes.text(0, row, " undefined", va="center")
            else:
                axes.barh(row, figures.value, height=0.7, color=color)
            if figures.interval:
                axes.plot(figures.interval, [row, row], color="black", linewidth=1.2)
            places.append(row)
            labels.append(name.replace("_", " "))
            row += 1
        if of_all[ALL].value is not None:
            axes.plot([of_all[ALL].value] * 2, [row - len(bars) - 0.5, row - 0.5], color="black", linestyle=":")
        row += 0.6
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.axvline(0.5, color="grey", linewidth=0.8)
    axes.set(xlim=(0, 1.01))
    figure.suptitle(title, fontsize="medium")  # not over the axes alone, which the names of types make narrow
    said = "share ranked right, dotted: mean\nblue: adjacent levels; red: pristine against badly restored"
    figure.supxlabel(said, fontsize="medium")
    return figure
