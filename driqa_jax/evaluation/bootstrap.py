"""Bootstrap over pictures: intervals of the figures, and of the difference of two models on the same pictures.

A resample draws N of the N pictures with replacement. All resamples are worked out together, from how often each
picture was drawn, so that ties (a picture drawn twice ties with itself) are exact. The same seed and N give the same
draws: two models are compared on the same resamples. The logistic of `plcc_fitted` is the one fitted to the whole
sample: a fit maximises the correlation, so refitting would move it by terms of second order alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from driqa_jax.evaluation import correlations

LEVEL = 0.95
# Elements of (draws, pictures) worked out at once, and rows of the matrix of pairs.
_BLOCK, _PAIRS = 4_000_000, 512


def replicates(prediction: np.ndarray, mos: np.ndarray, draws: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Each figure on each resample: by name (draws,) float64, nan where it is not defined.

    prediction, mos: (N,), finite. The names are those of `driqa_jax.evaluation.report.METRICS`. Raises ValueError as
    the figures themselves do.
    """
    x, y = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    fitted = correlations.fit_logistic(x, y)
    mapped = None if fitted is None else correlations.logistic(x, *fitted)
    columns, rows = _Ties(x), _Ties(y)
    parts = []
    for counts in _counts(len(x), draws, seed):
        tied_x, tied_y = columns.totals(counts), rows.totals(counts)
        parts.append(
            {
                "srcc": _pearson(counts, columns.ranks(tied_x), rows.ranks(tied_y)),
                "krcc": _tau(counts, x, y, tied_x, tied_y),
                "plcc": _pearson(counts, x[None], y[None]),
                "plcc_fitted": np.full(len(counts), np.nan)
                if mapped is None
                else _pearson(counts, mapped[None], y[None]),
                "rmse": np.sqrt(counts @ (x - y) ** 2 / len(x)),
            }
        )
        # Whether all that was drawn is one value is decided by counting, not by a variance that rounding blurs.
        constant = (tied_x.max(axis=1) == len(x)) | (tied_y.max(axis=1) == len(x))
        for name in ("srcc", "krcc", "plcc", "plcc_fitted"):
            parts[-1][name][constant] = np.nan
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def intervals(found: Mapping[str, np.ndarray], level: float = LEVEL) -> dict[str, tuple[float, float] | None]:
    """Percentile intervals of replicates, by name; None where a replicate is not defined."""
    tail = (1 - level) / 2
    return {
        name: None if np.isnan(values).any() else tuple(np.quantile(values, [tail, 1 - tail]).tolist())
        for name, values in found.items()
    }


def _counts(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each picture is drawn, (some draws, N) float64, a block at a time."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK // n)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        chosen = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


class _Ties:
    """Which of N values are equal."""

    def __init__(self, values: np.ndarray):
        _, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.flatnonzero(np.diff(self._group[self._order], prepend=-1))

    def totals(self, counts: np.ndarray) -> np.ndarray:
        """How often each distinct value is drawn, in their order: (draws, G)."""
        return np.add.reduceat(counts[:, self._order], self._starts, axis=1)

    def ranks(self, totals: np.ndarray) -> np.ndarray:
        """The mid-rank of each picture in each resample: (draws, N)."""
        return (np.cumsum(totals, axis=1) - (totals - 1) / 2)[:, self._group]


def _pearson(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = counts.shape[1]
    x = x - (counts * x).sum(axis=1, keepdims=True) / n
    y = y - (counts * y).sum(axis=1, keepdims=True) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (counts * x * y).sum(axis=1) / np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
    return np.clip(r, -1.0, 1.0)


def _tau(counts, x, y, tied_x, tied_y):
    """Kendall's tau-b: pairs that agree less pairs that do not, each as often as it was drawn."""
    n, drawn = len(x), counts.astype(np.float32)
    score = np.zeros(len(counts))
    for start in range(0, n, _PAIRS):
        rows = slice(start, start + _PAIRS)
        agree = np.sign(x[rows, None] - x[None, :]) * np.sign(y[rows, None] - y[None, :])
        # Whole numbers below 2**24: exact in single precision.
        score += (counts[:, rows] * (drawn @ agree.T.astype(np.float32))).sum(axis=1) / 2
    pairs = n * (n - 1) / 2
    free_x, free_y = (pairs - (tied * (tied - 1)).sum(axis=1) / 2 for tied in (tied_x, tied_y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return score / np.sqrt(free_x * free_y)
