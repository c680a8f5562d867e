"""Bootstrap over images: confidence intervals of metrics, and of differences between two models.

A resample draws N of N images with replacement. All resamples are computed together from the draw counts, so ties are
exact (an image drawn twice ties with itself). The same seed and N give the same draws, so two models are compared on
the same resamples. `plcc_fitted` uses the logistic fitted to the whole sample: the fit maximizes the correlation, so
refitting it for each resample changes second-order terms only.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from driqa_jax.evaluation import correlations

LEVEL = 0.95
RESAMPLES = 2000  # of `estimate`
_BLOCK, _PAIRS = 4_000_000, 512  # elements of (draws, images) computed at once, and rows of the pair matrix


def replicates(prediction: np.ndarray, mos: np.ndarray, draws: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Each metric on each resample: (draws,) float64 by name, NaN if undefined.

    prediction, mos: (N,), finite. The names are those of `driqa_jax.evaluation.report.METRICS`. Raises ValueError as
    the metrics do.
    """
    x, y = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    fitted = correlations.fit_logistic(x, y)
    mapped = np.full(len(x), np.nan) if fitted is None else correlations.logistic(x, *fitted)
    columns, rows = _Ties(x), _Ties(y)
    parts = []
    for counts in _counts(len(x), draws, seed):
        tied_x, tied_y = columns.totals(counts), rows.totals(counts)
        part = {
            "srcc": _pearson(counts, columns.ranks(tied_x), rows.ranks(tied_y)),
            "krcc": _tau(counts, x, y, tied_x, tied_y),
            "plcc": _pearson(counts, x[None], y[None]),
            "plcc_fitted": _pearson(counts, mapped[None], y[None]),
        }
        # Counting detects a constant resample exactly; a variance has rounding errors.
        constant = (tied_x.max(axis=1) == len(x)) | (tied_y.max(axis=1) == len(x))
        for values in part.values():
            values[constant] = np.nan
        parts.append({**part, "rmse": np.sqrt(counts @ (x - y) ** 2 / len(x))})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def intervals(values: Mapping[str, np.ndarray], level: float = LEVEL) -> dict[str, tuple[float, float] | None]:
    """Percentile intervals of replicates, by name; None if a replicate is NaN."""
    tail = (1 - level) / 2
    return {
        name: None if np.isnan(draws).any() else tuple(np.quantile(draws, [tail, 1 - tail]).tolist())
        for name, draws in values.items()
    }


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic, its 95 % interval (None: not defined), and the number of units."""

    value: float | None
    interval: tuple[float, float] | None = None
    n: int | None = None


def estimate(values: np.ndarray, statistic: Callable = np.mean, seed: int = 0) -> Estimate:
    """A statistic of one value per unit, (N,), with an interval from resampled units; NaN units are ignored.

    `statistic` takes `axis` as numpy functions do. Equal N and seed give equal draws, so differences are paired.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return Estimate(float(values[0]) if len(values) else None, None, len(values))
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    interval = intervals({"": statistic(values[draws], axis=1)})[""]
    return Estimate(float(statistic(values, axis=0)), interval, len(values))


def _counts(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw counts of the images, (block of draws, N) float64."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        chosen = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


class _Ties:
    """Groups of equal values among N."""

    def __init__(self, values: np.ndarray):
        _, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.flatnonzero(np.diff(self._group[self._order], prepend=-1))

    def totals(self, counts: np.ndarray) -> np.ndarray:
        """Draw counts of the distinct values in ascending order: (draws, G)."""
        return np.add.reduceat(counts[:, self._order], self._starts, axis=1)

    def ranks(self, totals: np.ndarray) -> np.ndarray:
        """The mid-rank of each image in each resample: (draws, N)."""
        return (np.cumsum(totals, axis=1) - (totals - 1) / 2)[:, self._group]


def _pearson(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = counts.shape[1]
    x = x - (counts * x).sum(axis=1, keepdims=True) / n
    y = y - (counts * y).sum(axis=1, keepdims=True) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (counts * x * y).sum(axis=1) / np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
    return np.clip(r, -1.0, 1.0)


def _tau(counts, x, y, tied_x, tied_y):
    """Kendall's tau-b: concordant minus discordant pairs, weighted by their draw counts."""
    n, drawn = len(x), counts.astype(np.float32)
    score = np.zeros(len(counts))
    for start in range(0, n, _PAIRS):
        rows = slice(start, start + _PAIRS)
        agree = np.sign(x[rows, None] - x[None, :]) * np.sign(y[rows, None] - y[None, :])
        # Integers below 2**24 are exact in single precision.
        score += (counts[:, rows] * (drawn @ agree.T.astype(np.float32))).sum(axis=1) / 2
    pairs = n * (n - 1) / 2
    free_x, free_y = (pairs - (tied * (tied - 1)).sum(axis=1) / 2 for tied in (tied_x, tied_y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return score / np.sqrt(free_x * free_y)
