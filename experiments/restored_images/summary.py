"""What the restored images say: rank agreement within each content, and whether doing too much is punished."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driqa_jax.evaluation.correlations import krcc, srcc
from driqa_jax.evaluation.estimates import Estimate, estimate
from experiments.restored_images.contents import METRICS

RANKS = {"srcc": srcc, "krcc": krcc}
ALL, EACH = "all pictures", "one degradation"


@dataclasses.dataclass(frozen=True)
class Content:
    """The pictures of one content as arrays of one length.

    degradation, restorer: str (N,). strength: (N,). judges: scores by model, and metrics by name turned so that higher
    is better, (N,) each.
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
        """Places of the pictures along one strength axis, from the one that is not restored on."""
        found = (self.degradation == degradation) & ((self.restorer == restorer) | (self.restorer == ""))
        places = np.flatnonzero(found)
        return places[np.argsort(self.strength[places], kind="stable")]


def agreement(contents: Sequence[Content], judge: str, metric: str) -> dict[str, dict[str, Estimate]]:
    """Mean over contents of the rank agreement of a judge with a metric; contents are resampled.

    By figure, "srcc" and "krcc", and by the pictures that are ranked together: all of a content, or those of one
    degradation (then the mean over degradations), and each degradation by its name.
    """
    names = list(dict.fromkeys(contents[0].degradation.tolist()))
    found = {}
    for figure, correlation in RANKS.items():
        each = np.array(
            [[_within(c, c.degradation == name, judge, metric, correlation) for name in names] for c in contents]
        )
        every = np.array([_within(c, slice(None), judge, metric, correlation) for c in contents])
        by_name = {name: estimate(each[:, i]) for i, name in enumerate(names)}
        # A content of which a degradation cannot be ranked (all scores equal) has no mean to compare with others.
        found[figure] = {ALL: estimate(every), EACH: estimate(each.mean(axis=1)), **by_name}
    return found


def _within(content, rows, judge, metric, correlation):
    value = correlation(content.judges[judge][rows], content.judges[metric][rows])
    return np.nan if value is None else value


def punishment(contents: Sequence[Content], judge: str, metric: str, restorer: str) -> dict[str, Estimate]:
    """Whether a judge falls where a restorer goes on beyond the strength that a metric finds best.

    Means over contents and degradations; contents are resampled. "punished": of the steps of strength beyond the
    metric's best, the share on which the judge falls. "change": the judge at the greatest strength less at the metric's
    best, in its own unit. "excess": how many steps stronger than the metric's best the judge's best is.
    """
    rows = []
    for content in contents:
        curves = []
        for degradation in dict.fromkeys(content.degradation.tolist()):
            places = content.curve(degradation, restorer)
            said, measured = content.judges[judge][places], content.judges[metric][places]
            best = int(measured.argmax())
            falls = np.diff(said[best:]) < 0
            share = falls.mean() if len(falls) else np.nan
            curves.append([share, said[-1] - said[best] if len(falls) else np.nan, int(said.argmax()) - best])
        # Where a metric likes the strongest best, nothing lies beyond.
        known = ~np.isnan(np.array(curves, np.float64))
        sums = np.where(known, curves, 0.0).sum(axis=0)
        rows.append(np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan))
    columns = np.array(rows).T
    return {name: estimate(column) for name, column in zip(("punished", "change", "excess"), columns, strict=True)}


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Two restorations of one degraded picture: metrics prefer the first, the score the second, by so much."""

    content: int
    first: int
    second: int
    score: float
    ssim: float


def disagreements(contents: Sequence[Content], judge: str, count: int) -> list[Disagreement]:
    """The pair of each content on which a judge contradicts SSIM and GMSD most; of all, `count` such, worst first."""
    found = []
    for number, content in enumerate(contents):
        ssim, gmsd, said = (content.judges[name] for name in ("ssim", "gmsd", judge))
        better = ssim[:, None] - ssim[None, :]
        preferred = said[None, :] - said[:, None]
        same = content.degradation[:, None] == content.degradation[None, :]
        against = same & (better > 0) & (gmsd[:, None] > gmsd[None, :]) & (preferred > 0)
        size = np.where(against, better * preferred, 0.0)
        first, second = np.unravel_index(size.argmax(), size.shape)
        if size[first, second] > 0:
            gaps = float(preferred[first, second]), float(better[first, second])
            found.append((size[first, second], Disagreement(number, int(first), int(second), *gaps)))
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])[:count]]
