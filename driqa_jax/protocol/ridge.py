"""A baseline for every trained row: a kernel ridge on the features of the frozen ImageNet backbone.

It reads the cached features of the stage "heads": means and deviations of all backbone levels of the quality encoder
over the whole image. The degradation encoder and the restorer are not used, so a row takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_collections
import numpy as np
from scipy.linalg import cho_factor, cho_solve

from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.source import Source
from driqa_jax.data.splits import select
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.probes import standardization
from driqa_jax.models.driqa import build_model
from driqa_jax.protocol.models import Predictors, view_provenance
from driqa_jax.protocol.plan import AS_FITTED, DataSets, Run
from driqa_jax.train import initialization
from driqa_jax.train.stages import frozen_features
from driqa_jax.train.stages.finetune import require_scores
from driqa_jax.train.stages.kept_features import KeptFeatures

WIDTHS = (0.5, 1.0, 2.0)
STRENGTHS = (1e-3, 1e-2, 1e-1)
BLOCK = 256


class KernelRidge:
    """Kernel ridge regression with a Gaussian kernel and a free intercept.

    x: (N, C) features, standardised here. y: (N,) float64 targets. The Gaussian's `width` has the unit sqrt(C), which
    is about the distance of two standardised images over sqrt(2).
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._shift, self._scale = standardization(x)
        self._z, self._mean, self._error = (x - self._shift) * self._scale, y.mean(), y - y.mean()
        self._own = self._distances(self._z)

    def fit(self, width: float, strength: float) -> Callable[[np.ndarray], np.ndarray]:
        """A function from (M, C) to (M,)."""
        kernel = np.exp(-self._own / (2 * width**2))
        kernel[np.diag_indices_from(kernel)] += strength
        weights = cho_solve(cho_factor(kernel, lower=True, overwrite_a=True), self._error)

        def predict(x: np.ndarray) -> np.ndarray:
            distances = self._distances((x - self._shift) * self._scale)
            return np.exp(-distances / (2 * width**2)) @ weights + self._mean

        return predict

    def _distances(self, a: np.ndarray) -> np.ndarray:
        """Mean squared distances over features, (M, N)."""
        squares = [np.square(x).sum(axis=1) for x in (a, self._z)]
        return np.maximum(squares[0][:, None] + squares[1] - 2 * a @ self._z.T, 0.0) / a.shape[1]


def fitted(run: Run, sets: DataSets) -> Predictors:
    """Fit on the run's training part; the SRCC on its validation part selects width and strength.

    Raises UserError if an image has no score, or as `driqa_jax.train.stages.kept_features` does.
    """
    config = initialization.with_model(ml_collections.ConfigDict(dict(run.config)))
    model, encoders = build_model(config.model), frozen_features.encoders(config)

    def moments(source: Source, canvas: tuple[int, ...] = ()) -> np.ndarray:
        changed = ml_collections.ConfigDict(config.to_dict())
        changed.view.canvas = canvas or tuple(config.view.canvas)
        kept = KeptFeatures(changed, model, encoders, source)
        rows = [np.arange(len(source))[i : i + BLOCK] for i in range(0, len(source), BLOCK)]
        return np.concatenate([kept.read(each)["moments"] for each in rows]).astype(np.float64)

    data = run.config["data"]
    source = run.split.assigned(sets.open(data))
    fit, val = (select(source, data[part], data["fold"], data["min_mos"] or None) for part in ("train", "val"))
    for part in (fit, val):
        require_scores(part)
    ridge, val_moments = KernelRidge(moments(fit), fit.column("mos").astype(np.float64)), moments(val)
    fits = {(width, strength): ridge.fit(width, strength) for width in WIDTHS for strength in STRENGTHS}
    val_srcc = {chosen: srcc(predict(val_moments), val.column("mos")) for chosen, predict in fits.items()}
    # An undefined SRCC (None) is worse than any number.
    best = max(val_srcc, key=lambda chosen: -2.0 if val_srcc[chosen] is None else val_srcc[chosen])
    return Predictors(
        {AS_FITTED: lambda test, part: fits[best](moments(part, test.canvas))},
        {AS_FITTED: {"sha256": params_sha256(encoders["quality_encoder"]["backbone"])}},
        {
            "ridge": {"width": best[0], "strength": best[1], "val_srcc": val_srcc[best]},
            "view": view_provenance(config),
        },
    )
