"""One PNG per explained image: the image, its quality map, the restored image and what stands out."""

import functools
import io
import os
import pathlib

from driqa_jax.inference.explain import Explanation
from driqa_jax.inference.findings import NOTHING, Fault
from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.reports.colormap import COLOR_MAP, EVEN, EVEN_COLOR, fitted, map_words, overlay

_PANEL = 520  # px, the longest side of a panel
_DPI = 100
_INK, _QUIET, _TRACK = "#1b1d20", "#6a6f76", "#e7e9ec"
_LONGEST_NAME = 80  # characters
_RESTORED = "The restored image shows what the model reads as damage.\nIt is not an improved version of the image."


def sheet(explanation: Explanation, threshold: float = STANDS_OUT) -> bytes:
    """A PNG on white; equal explanations give equal bytes.

    threshold: probability in [0, 1] from which a finding is shown. Without a restoration network there are two panels.
    Raises ValueError if the explanation was made with `restore=False`.
    """
    if explanation.restored is None and not explanation.not_restored:
        raise ValueError(f"{explanation.name}: the sheet shows the restored image; explain with restore=True")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    faults = explanation.faults(threshold)
    images = (explanation.picture, overlay(explanation), explanation.restored)
    panels = [fitted(image, _PANEL) for image in images if image is not None]
    height, width = panels[0].shape[:2]
    # A tall or tiny image still leaves room for captions below it.
    panel, below = (max(width, 400) / _DPI, max(height, 120) / _DPI), 0.6 + 0.45 * max(len(faults), 1)
    with rc_context({"font.size": 9.5, "text.color": _INK, "text.parse_math": False}):
        # The object interface leaves the caller's figures alone.
        figure = Figure(figsize=(len(panels) * panel[0] + 1, panel[1] + below + 1.4), dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.08)  # inches
        grid = figure.add_gridspec(3, len(panels), height_ratios=(0.7, panel[1] + 0.3, below))
        _draw_heading(figure.add_subplot(grid[0, :]), explanation)
        captions = ("Image", map_words(explanation), "Restored by the model")
        for column, (caption, image) in enumerate(zip(captions, panels, strict=False)):
            axes = figure.add_subplot(grid[1, column])
            axes.imshow(image, interpolation="lanczos")
            axes.set_title(caption, loc="left", color=_QUIET, fontsize=9.5)
            axes.set_axis_off()
        _draw_faults(figure.add_subplot(grid[2, 0]), faults, threshold)
        _draw_scale(figure.add_subplot(grid[2, 1]), explanation, below)
        if explanation.restored is not None:
            note = figure.add_subplot(grid[2, 2])
            note.set_axis_off()
            note.text(0, 1, _RESTORED, va="top", color=_QUIET)
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


def _draw_faults(axes, faults: tuple[Fault, ...], threshold: float) -> None:
    axes.set_axis_off()
    rows = [(fault.words, f"{fault.details}; probability {fault.probability:.2f}") for fault in faults]
    rows = rows or [(NOTHING, f"nothing has a probability of {threshold:.2f} or more")]
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(rows), 1), 0)
    for row, (words, details) in enumerate(rows):
        axes.text(0, row, words[:1].upper() + words[1:], fontsize=12, va="top")
        below = {"xytext": (0, -17), "textcoords": "offset points"}
        axes.annotate(details, (0, row), **below, color=_QUIET, va="top")


def _draw_scale(axes, explanation: Explanation, height: float) -> None:
    """The color scale of the map, and below it the scale from 0 to 100 with the range of the map marked.

    `height`: of the axes, inches.
    """
    from matplotlib import colormaps

    low, high = explanation.map_scale
    lowest, highest = explanation.quality_map.min(), explanation.quality_map.max()
    axes.set_axis_off()
    if explanation.even:
        axes.barh(26, 100, 6, color=EVEN_COLOR, alpha=0.7)
        ends = ((0, EVEN, "left"),)
    else:
        axes.imshow([list(range(101))], cmap=colormaps[COLOR_MAP], extent=(0, 100, 23, 29), aspect="auto", alpha=0.7)
        ends = ((0, f"{low:.1f}", "left"), (50, f"{(low + high) / 2:.1f}", "center"), (100, f"{high:.1f}", "right"))
    axes.barh(7, 100, 1.5, color=_TRACK)
    axes.barh(7, max(highest - lowest, 1), 4, lowest, color=_INK)
    for x, words, side in ends:
        axes.text(x, 21, words, ha=side, va="top", color=_QUIET)
    for x, side in ((0, "left"), (50, "center"), (100, "right")):
        axes.text(x, 3, str(x), ha=side, va="top", color=_QUIET)
    # Last, because `imshow` and `barh` move the limits. A unit has the same height for any number of findings.
    axes.set(xlim=(0, 100), ylim=(30 - 34 * height, 30))


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
