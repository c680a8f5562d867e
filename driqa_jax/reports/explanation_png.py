"""One picture for each photo explained: the photo, the quality map over it, the restored, what is wrong with it."""

from __future__ import annotations

import functools
import io
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.reports.colormap import colours, overlay

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

# Pixels.
_PANEL, _TALLEST, _NARROWEST = 520, 640, 400
_MARGIN, _GAP, _TOP, _CAPTION, _ROW = 36, 20, 96, 26, 30
_LARGEST_ENLARGEMENT = 2.0
_DPI = 100
_INK, _QUIET, _TRACK, _ACCENT = "#1b1d20", "#6a6f76", "#e7e9ec", "#3b6ea5"
MOST_ROWS = 6  # named degradations; there are seldom more than two


def sheet(explanation: Explanation, threshold: float = STANDS_OUT) -> bytes:
    """A PNG on white; equal explanations give equal bytes.

    `threshold`: the probability from which on a degradation is named, in [0, 1]. Raises ValueError for an explanation
    made with `restore=False`.
    """
    if explanation.restored is None:
        raise ValueError(f"{explanation.name}: the sheet shows the restored picture; explain with restore=True")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(explanation)
    height, width = panels[0].shape[:2]
    column = max(width, _NARROWEST)
    lefts = [_MARGIN + i * (column + _GAP) for i in range(3)]
    below = _TOP + _CAPTION + height + 34
    named = explanation.named(threshold)[:MOST_ROWS]
    total = 2 * _MARGIN + 3 * column + 2 * _GAP, below + max(len(named) * _ROW, 22) + _MARGIN
    # The object interface: nothing of this is shared with another thread, or with the caller's own figures.
    figure = Figure(figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI, facecolor="white", edgecolor="white")
    FigureCanvasAgg(figure)
    page = _Page(figure, *total)
    page.text(_MARGIN, 52, _shortened(explanation.name, total[0] - 2 * _MARGIN - 220), 22, bold=True)
    page.text(_MARGIN, 76, _facts(explanation), 13, colour=_QUIET)
    page.text(total[0] - _MARGIN, 58, f"{explanation.score:.1f}", 40, bold=True, align="right")
    page.text(total[0] - _MARGIN, 76, "of 100", 13, colour=_QUIET, align="right")
    lowest, highest = explanation.quality_map.min(), explanation.quality_map.max()
    captions = ("Photo", f"Quality map, from {lowest:.1f} to {highest:.1f}", "Restored by the model")
    for left, caption, panel in zip(lefts, captions, panels, strict=True):
        page.text(left, _TOP + 14, caption, 13, colour=_QUIET)
        page.picture(left, _TOP + _CAPTION, panel)
    _draw_degradations(page, lefts[0], below, column, named, threshold)
    _draw_colour_bar(page, lefts[1], below, width if width >= 200 else column, explanation)
    page.text(lefts[2], below, "What the model takes for damage, undone:", 13, colour=_QUIET)
    page.text(lefts[2], below + 20, "how it reads the photo, not a better photo.", 13, colour=_QUIET)
    return page.png()


class _Page:
    """A figure drawn on in pixels from the top left."""

    def __init__(self, figure, width: int, height: int):
        self._figure, self._height = figure, height
        self._axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self._axes.set_axis_off()

    def text(self, x, y, words, size, colour=_INK, bold=False, align="left"):
        """`y` is the base line; `size` in pixels."""
        self._axes.text(
            x,
            y,
            words,
            font=_font(bold),
            fontsize=size * 72 / _DPI,
            color=colour,
            ha=align,
            va="baseline",
            parse_math=False,  # a file name may hold dollars
            usetex=False,
        )

    def box(self, x, y, width, height, colour):
        from matplotlib.patches import Rectangle

        self._axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none", linewidth=0))

    def picture(self, x, y, pixels):
        self._figure.figimage(pixels, x, self._height - y - pixels.shape[0], origin="upper")

    def png(self) -> bytes:
        file = io.BytesIO()
        self._figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
        return file.getvalue()


def _draw_degradations(page, left, top, width, named, threshold):
    if not named:
        page.text(left, top, "No degradation stands out", 15)
        page.text(left, top + 20, f"none is at least {threshold:.0%} probable", 13, colour=_QUIET)
        return
    label, number, gap = int(width * 0.46), 36, 12
    bar = (width - label - 2 * number - gap) // 2
    columns = [left + label, left + label + bar + number + gap]
    page.text(left, top, "Degradations", 13, colour=_QUIET)
    for x, words in zip(columns, ("probability", "severity"), strict=True):
        page.text(x, top, words, 13, colour=_QUIET)
    for row, found in enumerate(named):
        y = top + 30 + row * _ROW
        page.text(left, y, found.label, 15)
        for x, value, colour in zip(columns, (found.probability, found.severity), (_ACCENT, _QUIET), strict=True):
            page.box(x, y - 10, bar, 8, _TRACK)
            page.box(x, y - 10, bar * value, 8, colour)
            page.text(x + bar + 6, y, f"{value:.2f}", 13, colour=_QUIET)


def _draw_colour_bar(page, left, top, width, explanation):
    page.picture(left, top - 10, np.broadcast_to(colours(np.linspace(0, 100, width)), (12, width, 3)))
    for tick in (0, 25, 50, 75, 100):
        x = left + tick / 100 * (width - 1)
        page.box(x - 0.5, top + 2, 1, 5, _QUIET)
        align = {0: "left", 100: "right"}.get(tick, "center")
        page.text(x, top + 22, str(tick), 13, colour=_QUIET, align=align)
    low, high = (
        left + value / 100 * (width - 1) for value in (explanation.quality_map.min(), explanation.quality_map.max())
    )
    page.box(low - 1, top - 17, max(high - low, 0) + 2, 4, _INK)


def _panels(explanation):
    """Photo, map and restored, as they are drawn."""
    height, width = explanation.picture.shape[:2]
    scale = min(_PANEL / width, _TALLEST / height, _LARGEST_ENLARGEMENT)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    how = Image.Resampling.LANCZOS
    pictures = (explanation.picture, overlay(explanation), explanation.restored)
    return [np.asarray(Image.fromarray(picture).resize(size, how)) for picture in pictures]


def _facts(explanation):
    height, width = explanation.size
    shown = explanation.picture.shape
    reduced = f", shown and restored at {shown[1]} x {shown[0]}" if explanation.reduced else ""
    return f"{width} x {height} pixels{reduced}"


def _shortened(name, room):
    """The file's name, with what the font cannot draw replaced, cut in its middle where it is too long."""
    drawn = "".join(c if ord(c) in _drawable() else "\N{REPLACEMENT CHARACTER}" for c in os.path.basename(name))
    most = max(int(room / 14), 12)
    return drawn if len(drawn) <= most else f"{drawn[: most // 2]} ... {drawn[-(most // 2 - 5) :]}"


@functools.cache
def _font(bold: bool = False):
    # By file: a name would be looked up among whatever fonts a machine has.
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return FontProperties(fname=str(pathlib.Path(get_data_path(), "fonts", "ttf", name)))


@functools.cache
def _drawable() -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(_font(True).get_file()).get_charmap())
