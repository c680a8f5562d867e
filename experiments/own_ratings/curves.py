"""Learning curves: what several ways of fitting N of the rated images gain on the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from driqa_jax.evaluation.correlations import srcc
from driqa_jax.progress import ProgressFn, silent
from driqa_jax.train.own_ratings import OwnRatings, Rated
from driqa_jax.train.residual import Residual, left, measure, strength

COUNTS = 20, 50, 100, 200, 466
GRID = 0.25, 1.0, 4.0, 16.0  # multiples of `strength`
GAUSSIAN = 0.1
# From training rows and other rows to the residual of the others.
Way = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ways(own: OwnRatings, rated: Rated) -> dict[str, Way]:
    """The ways to compare, by name; "residual" is that of `driqa fit`."""
    score, widths = own.scores(rated)[:, 0], own.widths
    parts = np.split(rated.features, np.cumsum(widths)[:-1], axis=1)

    def ridge(chosen: tuple[int, ...], ridge_of=strength) -> Residual:
        features = np.concatenate([parts[i] for i in chosen], axis=1)
        return Residual(features, [widths[i] for i in chosen], score, rated.mos, ridge_of)

    several = [ridge((0, 1, 2), lambda count, times=times: times * strength(count)) for times in GRID]

    def selected(rows, others):
        """The strength with the best cross-validated SRCC among the training rows."""
        fold, found = np.arange(len(rows)) % 5, np.zeros((len(GRID), len(rows)))
        for number in range(5):
            for each, residual in zip(found, several, strict=True):
                each[fold == number] = residual.of_others(rows[fold != number], rows[fold == number])
        values = [srcc(score[rows] + each, rated.mos[rows]) or -1.0 for each in found]
        return several[int(np.argmax(values))].of_others(rows, others)

    return {
        "residual": ridge((0, 1, 2)).of_others,
        "strength selected by cross-validation": selected,
        "moments alone": ridge((0,)).of_others,
        "hidden units alone": ridge((1,)).of_others,
        "moments and hidden units": ridge((0, 1)).of_others,
        "Gaussian kernel on moments": gaussian(parts[0], score, rated.mos),
    }


def gaussian(moments: np.ndarray, score: np.ndarray, mos: np.ndarray) -> Way:
    """Kernel ridge regression with `exp(-|x - x'|^2 / (2 F))` on standardized moments (N, F)."""
    moments = np.asarray(moments, np.float64)
    squares = np.square(moments).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * moments @ moments.T
    kernel = np.exp(-np.maximum(distances, 0) / (2 * moments.shape[1]))

    def fit(rows, others):
        own = kernel[np.ix_(rows, rows)] + GAUSSIAN * np.eye(len(rows))
        return kernel[np.ix_(others, rows)] @ cho_solve(cho_factor(own), left(score[rows], mos[rows]))

    return fit


def curves(
    own: OwnRatings, rated: Rated, counts=COUNTS, draws: int = 20, seed: int = 0, progress: ProgressFn = silent
) -> list[dict]:
    """For each number of ratings and way: means over draws of SRCC on all other images.

    `before` and `after` a fit, `worst` is the least gain of a draw, `worse` the share of draws with a loss.
    """
    rows = []
    counts = [count for count in counts if count <= len(rated.mos) - 20]
    methods = ways(own, rated)
    for number, count in enumerate(counts):
        rng, gains, before = np.random.default_rng([seed, count]), {name: [] for name in methods}, []
        for draw in range(draws):
            order = rng.permutation(len(rated.mos))
            train, others = order[:count], order[count:]
            rest, mos = rated.at(others), rated.mos[others]
            before.append(srcc(own.scores(rest)[:, 0], mos))
            for name, way in methods.items():
                gains[name].append(srcc(own.scores(rest, way(train, others))[:, 0], mos) - before[-1])
            progress("drawing ratings", number * draws + draw + 1, len(counts) * draws)
        for name, each in gains.items():
            gained = {"gain": np.mean(each), "worst": np.min(each), "worse": np.mean(np.array(each) < 0)}
            rows.append({"ratings": count, "way": name, "before": np.mean(before), **gained})
    return [
        {key: value if isinstance(value, (str, int)) else float(value) for key, value in row.items()} for row in rows
    ]


def cross_validated(own: OwnRatings, rated: Rated, seed: int = 0):
    """The gain that `driqa fit` prints."""
    before = own.scores(rated)[:, 0]
    after = own.scores(rated, own.residual(rated).out_of_fold(rated.groups, seed))[:, 0]
    return measure(before, after, rated.mos, seed)
