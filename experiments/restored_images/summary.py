"""Results on restored images: rank agreement within each content, and punishment of excessive restoration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.correlations import krcc, srcc
from experiments.restored_images.contents import METRICS

RANKS = {"srcc": srcc, "krcc": krcc}
ALL, EACH = "all pictures", "one degradation"


@dataclasses.dataclass(frozen=True)
class Content:
    """The N images of one content.

    degradation, restorer: (N,) str. strength: (N,). judges: (N,) each, scores by model and metrics by name, with the
    sign that makes higher better.
    """

    degradation: np.ndarray
    restorer: np.ndarray
    strength: np.ndarray
    judges: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Content:
        """From the rows of `Contents.rows`."""
        judges = {model: np.array([row["scores"][model] for row in rows]) for model in rows[0]["scores"]}
        judges |= {name: sign * np.array([r["metrics"][name] for r in rows]) for name, (_, sign) in METRICS.items()}
        degradation, restorer, strength = (
            np.array([row[k] for row in rows]) for k in ("degradation", "restorer", "strength")
        )
        return cls(degradation, restorer, strength, judges)

    def curve(self, degradation: str, restorer: str) -> np.ndarray:
        """Indices of the images of one restorer by increasing strength, starting with the one without restoration."""
        rows = (self.degradation == degradation) & ((self.restorer == restorer) | (self.restorer == ""))
        indices = np.flatnonzero(rows)
        return indices[np.argsort(self.strength[indices], kind="stable")]


def agreement(contents: Sequence[Content], judge: str, metric: str) -> dict[str, dict[str, Estimate]]:
    """Mean over contents of the rank agreement of a judge with a metric; contents are resampled.

    By statistic ("srcc", "krcc") and by the images that are ranked together: all of a content, those of one degradation
    (mean over degradations), and each degradation by name.
    """
    names = list(dict.fromkeys(contents[0].degradation.tolist()))
    results = {}
    for statistic, correlation in RANKS.items():
        each = np.array(
            [[_within(c, c.degradation == name, judge, metric, correlation) for name in names] for c in contents]
        )
        every = np.array([_within(c, slice(None), judge, metric, correlation) for c in contents])
        by_name = {name: estimate(each[:, i]) for i, name in enumerate(names)}
        # A content with an unrankable degradation (all scores equal) has an undefined mean and is ignored.
        results[statistic] = {ALL: estimate(every), EACH: estimate(each.mean(axis=1)), **by_name}
    return results


def _within(content, rows, judge, metric, correlation):
    value = correlation(content.judges[judge][rows], content.judges[metric][rows])
    return np.nan if value is None else value


def punishment(contents: Sequence[Content], judge: str, metric: str, restorer: str) -> dict[str, Estimate]:
    """Whether a judge falls at strengths above the best one of a metric.

    Means over contents and degradations; contents are resampled. "punished": share of the strength steps above the
    metric's best where the judge falls. "change": the judge at the greatest strength minus that at the metric's best,
    in the judge's unit. "excess": steps from the metric's best to the judge's best.
    """
    rows = []
    for content in contents:
        curves = []
        for degradation in dict.fromkeys(content.degradation.tolist()):
            places = content.curve(degradation, restorer)
            judged, measured = content.judges[judge][places], content.judges[metric][places]
            best = int(measured.argmax())
            falls = np.diff(judged[best:]) < 0
            share = falls.mean() if len(falls) else np.nan
            curves.append([share, judged[-1] - judged[best] if len(falls) else np.nan, int(judged.argmax()) - best])
        # If the metric is best at the greatest strength, no step is above it.
        known = ~np.isnan(np.array(curves, np.float64))
        sums = np.where(known, curves, 0.0).sum(axis=0)
        rows.append(np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan))
    columns = np.array(rows).T
    return {name: estimate(column) for name, column in zip(("punished", "change", "excess"), columns, strict=True)}


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Two restorations of one degraded image: metrics prefer the first, the score the second, by these differences."""

    content: int
    first: int
    second: int
    score: float
    ssim: float


def disagreements(contents: Sequence[Content], judge: str, count: int) -> list[Disagreement]:
    """The `count` worst contents by the pair on which a judge contradicts SSIM and GMSD most, worst first."""
    pairs = []
    for number, content in enumerate(contents):
        ssim, gmsd, judged = (content.judges[name] for name in ("ssim", "gmsd", judge))
        better = ssim[:, None] - ssim[None, :]
        preferred = judged[None, :] - judged[:, None]
        same = content.degradation[:, None] == content.degradation[None, :]
        against = same & (better > 0) & (gmsd[:, None] > gmsd[None, :]) & (preferred > 0)
        size = np.where(against, better * preferred, 0.0)
        first, second = np.unravel_index(size.argmax(), size.shape)
        if size[first, second] > 0:
            gaps = float(preferred[first, second]), float(better[first, second])
            pairs.append((size[first, second], Disagreement(number, int(first), int(second), *gaps)))
    return [one for _, one in sorted(pairs, key=lambda pair: -pair[0])[:count]]
