"""The share of human scores that prediction intervals contain, against their nominal level."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from driqa_jax.evaluation.figures import INK, LINE, blank_figure

GROUPS = 5


def coverage(score: np.ndarray, half_width: np.ndarray, mos: np.ndarray, level: float) -> dict[str, Any]:
    """Coverage of the intervals `score +- half_width`; all arrays (N,), in MOS.

    Returns `level` (nominal), `n`, `held` (share of `mos` inside), `half_width` (mean), and `groups`: the last three
    for `GROUPS` equal parts of the images, ordered by interval width.
    """
    inside = np.abs(mos - score) <= half_width

    def share(rows):
        return {"n": len(rows), "held": float(inside[rows].mean()), "half_width": float(half_width[rows].mean())}

    by_width = np.array_split(np.argsort(half_width, kind="stable"), min(GROUPS, len(mos)))
    return {"level": level, **share(np.arange(len(mos))), "groups": [share(rows) for rows in by_width]}


def coverage_line(values: Mapping[str, Any]) -> str:
    """The result of `coverage` as one sentence."""
    return (
        f"intervals that should hold {values['level']:.0%} of the MOS hold {values['held']:.1%}; "
        f"half of their width is {100 * values['half_width']:.1f} points on average"
    )


def draw_coverage(values: Mapping[str, Any], title: str) -> Figure:
    """Coverage of each width group with its 95 % Wilson interval, and the nominal level."""
    figure = blank_figure(5, 3.2)
    axes = figure.add_subplot()
    for group in values["groups"]:
        axes.plot([100 * group["half_width"]] * 2, wilson(group["held"], group["n"]), color=INK, linewidth=1.2)
        axes.plot(100 * group["half_width"], group["held"], "o", color=INK)
    axes.axhline(values["level"], color=LINE, linestyle="--", label="promised")
    axes.set(xlabel="half of the interval's width, points", ylabel="share of MOS held", title=title, ylim=(0.5, 1.0))
    axes.legend(frameon=False, loc="lower right")
    return figure


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The confidence interval of a share observed in n trials (Wilson, 1927)."""
    centre, shrunk = share + z * z / (2 * n), 1 + z * z / n
    reach = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((centre - reach) / shrunk), float((centre + reach) / shrunk)
