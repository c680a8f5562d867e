"""Figures of the protocol on restored images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.restored_images.summary import Content

_SCORE, _METRIC = "#33658a", "#c8553d"


def curves_figure(contents: Sequence[Content], judge: str, metric: str = "ssim") -> Figure:
    """Means over contents of a score (blue) and a metric (red; up is better) along each strength axis."""
    content = contents[0]
    degraded = list(dict.fromkeys(content.degradation.tolist()))
    restorers = [name for name in dict.fromkeys(content.restorer.tolist()) if name]
    figure = Figure(figsize=(2.7 * len(restorers), 2.2 * len(degraded)), layout="constrained")
    grid = figure.subplots(len(degraded), len(restorers), squeeze=False, sharey="row")
    for row, degradation in enumerate(degraded):
        twins = []
        for column, restorer in enumerate(restorers):
            axes = grid[row, column]
            places = content.curve(degradation, restorer)
            steps, labels = np.arange(len(places)), [f"{content.strength[place]:g}" for place in places]
            score, measured = (np.mean([c.judges[name][places] for c in contents], axis=0) for name in (judge, metric))
            axes.plot(steps, score, "o-", color=_SCORE, ms=3)
            twin = axes.twinx()
            twin.plot(steps, measured, "s--", color=_METRIC, ms=3)
            twins.append(twin)
            axes.set_xticks(steps, labels)
            axes.tick_params(axis="y", colors=_SCORE)
            twin.tick_params(axis="y", colors=_METRIC, labelright=column == len(restorers) - 1)
            if row == 0:
                axes.set_title(restorer.replace("_", " "))
            if column == 0:
                axes.set_ylabel(f"{degradation.replace('_', ' ')}\nscore", color=_SCORE)
        low, high = min(t.get_ylim()[0] for t in twins), max(t.get_ylim()[1] for t in twins)
        for twin in twins:
            twin.set_ylim(low, high)
        twins[-1].set_ylabel(metric.upper(), color=_METRIC)
    figure.supxlabel("strength (0: not restored)")
    return figure


def pairs_figure(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> Figure:
    """Rows of pictures, uint8 (H, W, 3), each under its caption."""
    figure = Figure(figsize=(3.2 * max(map(len, rows)), 3.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, pictures in zip(grid, rows, strict=True):
        for axes, (caption, picture) in zip(line, pictures, strict=False):
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(caption, fontsize=8)
    return figure
