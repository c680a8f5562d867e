"""A linear residual on frozen features, from a few dozen to a few thousand ratings, and what it gains on unseen images.

The residual is a ridge regression, solved in the dual: with N ratings and D features the cost is that of an (N, N)
matrix. Its target is what a line from the model's score to the ratings leaves, in units of the score. The score keeps
its whole weight beside it, so a strong ridge gives back the model, and few ratings change little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate, intervals, replicates
from driqa_jax.evaluation.correlations import srcc

FOLDS = 5
# The mean of the predictions of several divisions into folds has less noise; many ratings have little.
_REPEATS, _ROWS = 5, 2000
DRAWS = 1000


def strength(count: int) -> float:
    """The ridge for `count` ratings, against a kernel whose diagonal is about the number of blocks.

    Cross-validation that selects it anew for each set of ratings gained less, see `experiments.own_ratings`.
    """
    return 3.0 + 200.0 / count


class Residual:
    """Ridge regression of ratings on blocks of features beside a score.

    Each block is centered and scaled to a mean squared length of 1 over the rows of a fit, so that a block of thousands
    of features does not outweigh one of a hundred.

    Args:
      features: (N, D) float, the blocks side by side.
      widths: of the blocks, sum D.
      score: (N,) the model's score.
      mos: (N,) ratings, higher is better.
      ridge: its strength for a number of ratings.

    Raises ValueError if the shapes disagree.
    """

    def __init__(
        self,
        features: np.ndarray,
        widths: Sequence[int],
        score: np.ndarray,
        mos: np.ndarray,
        ridge: Callable[[int], float] = strength,
    ):
        self._ridge = ridge
        features, self._score, self._mos = (np.asarray(x, np.float64) for x in (features, score, mos))
        if features.shape != (len(self._mos), sum(widths)) or self._score.shape != self._mos.shape:
            shapes = f"{features.shape}, {self._score.shape} and {self._mos.shape}"
            raise ValueError(f"features (N, {sum(widths)}), score and mos (N,) expected, got {shapes}")
        self._blocks = np.split(features, np.cumsum(widths)[:-1], axis=1)
        # About the mean of all rows, because products of large values lose digits.
        near = [block - block.mean(axis=0) for block in self._blocks]
        self._products = [block @ block.T for block in near]

    def fit(self, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, float]:
        """Kernel (D,) and bias, float64, of the residual fitted on these rows: `features @ kernel + bias`."""
        dual, scales = self._solve(rows)
        parts = []
        for block, scale in zip(self._blocks, scales, strict=True):
            own = block[rows]
            parts.append(scale * (own - own.mean(axis=0)).T @ dual)
        kernel = np.concatenate(parts)
        mean = np.concatenate([block[rows].mean(axis=0) for block in self._blocks])
        return kernel, -float(mean @ kernel)

    def of_others(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The residual, fitted on `rows`, of the images `others`: (len(others),) float64."""
        dual, scales = self._solve(rows)
        found = np.zeros(len(others))
        for product, scale in zip(self._products, scales, strict=True):
            own, cross = product[np.ix_(rows, rows)].mean(axis=0), product[np.ix_(others, rows)]
            centered = cross - cross.mean(axis=1, keepdims=True) - own[None] + own.mean()
            found += scale * (centered @ dual)
        return found

    def out_of_fold(self, groups: np.ndarray, seed: int = 0) -> np.ndarray:
        """The residual (N,) of each image, fitted without the images of its group and fold.

        `groups` (N,): images of one group are in one fold. Raises UserError for a single group.
        """
        _, group = np.unique(groups, return_inverse=True)
        count = group.max(initial=-1) + 1
        if count < 2:
            raise UserError("all rated images belong to one group, so nothing shows what a fit gains on others")
        rng, found = np.random.default_rng(seed), np.zeros(len(group))
        repeats = int(np.clip(_ROWS // len(group), 1, _REPEATS))
        for _ in range(repeats):
            fold = rng.permutation(np.arange(count) % FOLDS)[group]
            for number in np.unique(fold):
                others = np.flatnonzero(fold == number)
                found[others] += self.of_others(np.flatnonzero(fold != number), others) / repeats
        return found

    def _solve(self, rows) -> tuple[np.ndarray, list[float]]:
        """Dual weights of centered rows, and the scale of each block's products."""
        score, mos = self._score[rows], self._mos[rows]
        kernel, scales = np.zeros((len(mos), len(mos))), []
        for product in self._products:
            own = product[rows][:, rows]
            mean = own.mean(axis=0)
            centered = own - mean[None] - mean[:, None] + mean.mean()
            length = np.trace(centered) / len(mos)
            scales.append(1 / length if length > 1e-12 else 0.0)
            kernel += scales[-1] * centered
        kernel[np.diag_indices_from(kernel)] += self._ridge(len(mos))
        return cho_solve(cho_factor(kernel, lower=True, overwrite_a=True), left(score, mos)), scales


def left(score: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """What the least-squares line from `score` (N,) to `mos` (N,) leaves, in units of the score: (N,), mean 0.

    One rating unit is std(score) / std(mos) units of the score. 0 if either is constant.
    """
    score, mos = score - score.mean(), mos - mos.mean()
    lengths = np.sqrt([score @ score, mos @ mos])
    if lengths.min() <= 1e-9 * np.sqrt(len(mos)):
        return np.zeros(len(mos))
    matched = mos * (lengths[0] / lengths[1])
    return matched - score * (score @ matched) / (score @ score)


@dataclasses.dataclass(frozen=True)
class Gain:
    """SRCC with the ratings before and after a fit, on images that it did not see, and the paired difference."""

    before: Estimate
    after: Estimate
    difference: Estimate

    def refusal(self) -> str:
        """Why the fit should not be used; "" if it should."""
        if self.after.interval is None or self.after.interval[0] <= 0:
            return "the ratings do not follow what the model sees in these images: the SRCC could be 0"
        if not self.difference.value or self.difference.value <= 0:
            return "the ratings do not improve the model: the cross-validated SRCC does not rise"
        return ""


def measure(before: np.ndarray, after: np.ndarray, mos: np.ndarray, seed: int = 0) -> Gain:
    """The gain from scores (N,) of the model and of fits that did not see the image, over the same resamples."""
    scores = {"before": before, "after": after}
    value = {name: srcc(each, mos) for name, each in scores.items()}
    drawn = {name: replicates(each, mos, DRAWS, seed)["srcc"] for name, each in scores.items()}
    drawn["difference"] = drawn["after"] - drawn["before"]
    defined = None not in value.values()
    value["difference"] = value["after"] - value["before"] if defined else None
    interval = intervals(drawn)
    return Gain(**{name: Estimate(value[name], interval[name], len(mos)) for name in interval})
