"""One PNG per explained image: the image, its quality map, the restored image and the named degradations."""

import functools
import io
import os
import pathlib

from driqa_jax.inference.explain import Explanation
from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.reports.colormap import COLOR_MAP, fitted, overlay

MOST_ROWS = 6  # named degradations; few images have more than two
_PANEL = 520  # px, the longest side of a panel
_DPI = 100
_INK, _QUIET, _TRACK, _ACCENT = "#1b1d20", "#6a6f76", "#e7e9ec", "#3b6ea5"
_LONGEST_NAME = 80  # characters
_RESTORED = "The restored image shows what the model reads as damage.\nIt is not an improved version of the image."


def sheet(explanation: Explanation, threshold: float = STANDS_OUT) -> bytes:
    """A PNG on white; equal explanations give equal bytes.

    threshold: probability in [0, 1] from which a degradation is named. A model without a restoration network leaves the
    place of the restored image empty. Raises ValueError if the explanation was made with `restore=False`.
    """
    if explanation.restored is None and not explanation.not_restored:
        raise ValueError(f"{explanation.name}: the sheet shows the restored image; explain with restore=True")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = explanation.named(threshold)[:MOST_ROWS]
    images = (explanation.picture, overlay(explanation), explanation.restored)
    panels = [fitted(image, _PANEL) for image in images if image is not None]
    height, width = panels[0].shape[:2]
    # A tall or tiny image still leaves room for captions below it.
    panel, below = (max(width, 400) / _DPI, max(height, 120) / _DPI), 0.7 + 0.3 * max(len(named), 1)
    with rc_context({"font.size": 9.5, "text.color": _INK, "text.parse_math": False}):
        # The object interface leaves the caller's figures alone.
        figure = Figure(figsize=(3 * panel[0] + 1, panel[1] + below + 1.4), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.08)  # inches
        grid = figure.add_gridspec(3, 3, height_ratios=(0.7, panel[1] + 0.3, below))
        _draw_heading(figure.add_subplot(grid[0, :]), explanation)
        lowest, highest = explanation.quality_map.min(), explanation.quality_map.max()
        captions = ("Image", f"Quality map, from {lowest:.1f} to {highest:.1f}", "Restored by the model")
        for column, (caption, image) in enumerate(zip(captions, panels, strict=False)):
            axes = figure.add_subplot(grid[1, column])
            axes.imshow(image, interpolation="lanczos")
            axes.set_title(caption, loc="left", color=_QUIET, fontsize=9.5)
            axes.set_axis_off()
        _draw_degradations(figure.add_subplot(grid[2, 0]), named, threshold)
        _draw_scale(figure.add_subplot(grid[2, 1]), lowest, highest)
        note = figure.add_subplot(grid[2, 2])
        note.set_axis_off()
        note.text(0, 1, explanation.not_restored or _RESTORED, va="top", color=_QUIET)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _draw_heading(axes, explanation: Explanation) -> None:
    axes.set_axis_off()
    height, width = explanation.size
    shown = explanation.picture.shape
    verb = "shown" if explanation.not_restored else "shown and restored"
    reduced = f", {verb} at {shown[1]} x {shown[0]}" if explanation.reduced else ""
    # The bundled fonts by file: a name would be looked up among the fonts of the machine.
    axes.text(0, 1, _drawable_name(explanation.name), font=_font(bold=True), fontsize=15, va="top")
    axes.text(0, 0, f"{width} x {height} pixels{reduced}", color=_QUIET, va="bottom")
    score = f"{explanation.score:.1f} of 100"
    axes.text(1, 1, score, font=_font(bold=True), fontsize=22, va="top", ha="right")


def _draw_degradations(axes, named, threshold: float) -> None:
    axes.set_axis_off()
    if not named:
        axes.text(0, 1, "No degradation stands out", fontsize=11, va="top")
        axes.text(0, 0.6, f"none is at least {threshold:.0%} probable", color=_QUIET, va="top")
        return
    axes.set_xlim(0, 1)
    axes.set_ylim(len(named) + 0.5, -0.8)
    for left, words in ((0, "Degradations"), (0.5, "probability"), (0.77, "severity")):
        axes.text(left, -0.3, words, color=_QUIET)
    for row, degradation in enumerate(named, start=1):
        axes.text(0, row - 0.4, degradation.label, va="center")
        for left, value, color in ((0.5, degradation.prominence, _ACCENT), (0.77, degradation.severity, _QUIET)):
            axes.barh(row - 0.4, 0.16, 0.3, left, color=_TRACK)
            axes.barh(row - 0.4, 0.16 * value, 0.3, left, color=color)
            axes.text(left + 0.17, row - 0.4, f"{value:.2f}", color=_QUIET, va="center")


def _draw_scale(axes, lowest: float, highest: float) -> None:
    """The color scale from 0 to 100, with the range of this map marked above it."""
    from matplotlib import colormaps

    axes.imshow([list(range(101))], cmap=colormaps[COLOR_MAP], extent=(0, 100, 0, 6), aspect="auto", alpha=0.7)
    axes.plot((lowest, highest), (9, 9), color=_INK, linewidth=3, marker="|")
    axes.set(xlim=(0, 100), ylim=(0, 30), yticks=[], xticks=[0, 25, 50, 75, 100])
    axes.tick_params(colors=_QUIET)
    for side in axes.spines.values():
        side.set_visible(False)


def _drawable_name(name: str) -> str:
    """The base name; characters that the font lacks are replaced, and the middle of a long name is cut."""
    drawn = "".join(c if ord(c) in _glyphs() else "\N{REPLACEMENT CHARACTER}" for c in os.path.basename(name))
    half = _LONGEST_NAME // 2
    return drawn if len(drawn) <= _LONGEST_NAME else f"{drawn[:half]} ... {drawn[5 - half :]}"


@functools.cache
def _font(bold: bool):
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return FontProperties(fname=str(pathlib.Path(get_data_path(), "fonts", "ttf", name)))


@functools.cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(_font(bold=True).get_file()).get_charmap())
