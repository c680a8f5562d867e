"""Figures of the study of restored images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.restored_images.summary import Content

_SCORE, _METRIC = "#33658a", "#c8553d"


def curves_figure(contents: Sequence[Content], judge: str, metric: str = "ssim") -> Figure:
    """Means over contents of a score (blue) and a metric (red, up is better) by strength."""
    content = contents[0]
    degraded = list(dict.fromkeys(content.degradation.tolist()))
    restorers = [name for name in dict.fromkeys(content.restorer.tolist()) if name]
    figure = Figure(figsize=(2.7 * len(restorers), 2.2 * len(degraded)), layout="constrained")
    grid = figure.subplots(len(degraded), len(restorers), squeeze=False, sharey="row")
    for row, degradation in enumerate(degraded):
        right_axes = []
        for column, restorer in enumerate(restorers):
            axes = grid[row, column]
            places = content.curve(degradation, restorer)
            steps, labels = np.arange(len(places)), [f"{content.strength[place]:g}" for place in places]
            score, measured = (np.mean([c.judges[name][places] for c in contents], axis=0) for name in (judge, metric))
            axes.plot(steps, score, "o-", color=_SCORE, ms=3)
            right = axes.twinx()
            right.plot(steps, measured, "s--", color=_METRIC, ms=3)
            right_axes.append(right)
            axes.set_xticks(steps, labels)
            axes.tick_params(axis="y", colors=_SCORE)
            right.tick_params(axis="y", colors=_METRIC, labelright=column == len(restorers) - 1)
            if row == 0:
                axes.set_title(restorer.replace("_", " "))
            if column == 0:
                axes.set_ylabel(f"{degradation.replace('_', ' ')}\nscore", color=_SCORE)
        limits = [axis.get_ylim() for axis in right_axes]
        for axis in right_axes:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        right_axes[-1].set_ylabel(metric.upper(), color=_METRIC)
    figure.supxlabel("strength (0: not restored)")
    return figure


def pairs_figure(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> Figure:
    """Rows of images, (H, W, 3) uint8, with captions."""
    figure = Figure(figsize=(3.2 * max(map(len, rows)), 3.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, images in zip(grid, rows, strict=True):
        for axes, (caption, image) in zip(line, images, strict=False):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(caption, fontsize=8)
    return figure
