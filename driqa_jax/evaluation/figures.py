"""Plots of an evaluation: human scores against predictions, bars by degradation or subset, coverage of intervals."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from driqa_jax.evaluation.correlations import fit_logistic, logistic
from driqa_jax.evaluation.report import DEGRADATION, Report
from driqa_jax.io import write_bytes

INK, LINE, _DPI = "#33658a", "#c8553d", 150


def draw_scatter(prediction: np.ndarray, mos: np.ndarray, title: str) -> Figure:
    """Human scores over predictions, both (N,), with the fitted 4-parameter logistic if it is defined."""
    figure, axes = blank_figure(5, 5)
    axes.scatter(prediction, mos, s=6, alpha=0.35, linewidths=0, color=INK)
    fitted = fit_logistic(prediction, mos)
    if fitted is not None:
        x = np.linspace(np.min(prediction), np.max(prediction), 200)
        axes.plot(x, logistic(x, *fitted), color=LINE, label="fitted logistic")
        axes.legend(frameon=False, loc="upper left")
    axes.set(xlabel="predicted score", ylabel="mean opinion score", title=title)
    return figure


def draw_bars(report: Report, metric: str = "srcc") -> Figure | None:
    """A bar with its interval for each degradation, or else each subset; None if the report has neither.

    An undefined metric is labeled instead of drawn.
    """
    parts = {name.removeprefix(DEGRADATION): p for name, p in report.parts.items() if name.startswith(DEGRADATION)}
    parts = parts or {name: part for name, part in report.parts.items() if not name.endswith("novel")}
    if not parts:
        return None
    parts = {"all": report.whole, **parts}
    figure, axes = blank_figure(6, 1.2 + 0.28 * len(parts))
    for row, (name, part) in enumerate(parts.items()):
        draw_bar(axes, row, part.metrics[metric], part.intervals.get(metric), LINE if name == "all" else INK)
    axes.set_yticks(range(len(parts)), [f"{name} ({part.n})" for name, part in parts.items()])
    axes.invert_yaxis()
    axes.set(xlabel=metric.upper(), title=f"{report.data}, split {report.split}")
    return figure


def draw_bar(axes: Axes, row: float, value: float | None, interval: tuple[float, float] | None, color: str) -> None:
    """One horizontal bar with its interval as a line, or the word "undefined"."""
    if value is None:
        axes.text(0, row, " undefined", va="center")
        return
    axes.barh(row, value, height=0.7, color=color)
    if interval:
        axes.plot(interval, [row, row], color="black", linewidth=1.2)


def draw_coverage(values: Mapping[str, Any], title: str) -> Figure:
    """Coverage of each width group with its 95 % Wilson interval, and the nominal level."""
    figure, axes = blank_figure(5, 3.2)
    for group in values["groups"]:
        ends = binomtest(round(group["held"] * group["n"]), group["n"]).proportion_ci(method="wilson")
        axes.plot([100 * group["half_width"]] * 2, ends, color=INK, linewidth=1.2)
        axes.plot(100 * group["half_width"], group["held"], "o", color=INK)
    axes.axhline(values["level"], color=LINE, linestyle="--", label="promised")
    axes.set(xlabel="half of the interval's width, points", ylabel="share of MOS held", title=title, ylim=(0.5, 1.0))
    axes.legend(frameon=False, loc="lower right")
    return figure


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, SVG or PDF, chosen by the extension; the same figure gives the same bytes."""
    kind = pathlib.Path(path).suffix.lower().lstrip(".") or "png"
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "driqa"}):
        figure.savefig(file, format=kind, dpi=_DPI, metadata=undated.get(kind))
    write_bytes(path, file.getvalue())


def blank_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure of this size in inches, without a display, and its Axes: an array of them if it has several."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)
