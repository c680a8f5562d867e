"""Whether intervals hold the share of human scores that they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from driqa_jax.evaluation.figures import INK, LINE, blank_figure

GROUPS = 5


def coverage(score: np.ndarray, half_width: np.ndarray, mos: np.ndarray, level: float) -> dict[str, Any]:
    """What intervals `score +- half_width` hold of `mos`, all (N,), in MOS.

    Returns `level`, promised; `n`; `held`, the share within; `half_width`, the mean; and `groups`, the last three of
    `GROUPS` equal parts of the pictures, from the narrowest intervals to the widest.
    """
    held = np.abs(mos - score) <= half_width

    def share(rows):
        return {"n": len(rows), "held": float(held[rows].mean()), "half_width": float(half_width[rows].mean())}

    by_width = np.array_split(np.argsort(half_width, kind="stable"), min(GROUPS, len(mos)))
    return {"level": level, **share(np.arange(len(mos))), "groups": [share(rows) for rows in by_width]}


def said(found: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"intervals that should hold {found['level']:.0%} of the MOS hold {found['held']:.1%}; "
        f"half of their width is {100 * found['half_width']:.1f} points on average"
    )


def draw_coverage(found: dict[str, Any], title: str) -> Figure:
    """The share held by groups of like width, with its 95 % interval (Wilson), beside the promise."""
    figure = blank_figure(5, 3.2)
    axes = figure.add_subplot()
    for group in found["groups"]:
        low, high = wilson(group["held"], group["n"])
        axes.plot([100 * group["half_width"]] * 2, [low, high], color=INK, linewidth=1.2)
        axes.plot(100 * group["half_width"], group["held"], "o", color=INK)
    axes.axhline(found["level"], color=LINE, linestyle="--", label="promised")
    axes.set(xlabel="half of the interval's width, points", ylabel="share of MOS held", title=title, ylim=(0.5, 1.0))
    axes.legend(frameon=False, loc="lower right")
    return figure


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share seen in n trials (Wilson, 1927)."""
    centre, shrunk = share + z * z / (2 * n), 1 + z * z / n
    reach = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((centre - reach) / shrunk), float((centre + reach) / shrunk)
