"""The baseline that every trained row should pass: a kernel ridge on what the frozen backbone sees of the picture.

It reads what the stage "heads" keeps, the means and deviations of all levels of `E_q`'s ImageNet backbone over the
whole picture, and nothing of E_d and R; so a row of it costs seconds beside rows on kept features.
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
from driqa_jax.evaluation.linear_probes import standard
from driqa_jax.models.driqa import build_model
from driqa_jax.protocol.models import Tested
from driqa_jax.protocol.plan import AS_FITTED, Run, Sets
from driqa_jax.train import initialization
from driqa_jax.train.stages import frozen_features
from driqa_jax.train.stages.finetune import require_scores, view_rule
from driqa_jax.train.stages.kept_features import KeptFeatures

WIDTHS = (0.5, 1.0, 2.0)
STRENGTHS = (1e-3, 1e-2, 1e-1)
BLOCK = 256


class KernelRidge:
    """Least squared error plus `strength` times the norm, in the space of a Gaussian kernel; the mean is free.

    x: (N, C) features, standardised here. y: (N,) what to predict, float64. `width` of the Gaussian is in units of
    sqrt(C), about the distance of two standardised pictures over sqrt(2).
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._shift, self._scale = standard(x)
        self._z, self._mean, self._error = (x - self._shift) * self._scale, y.mean(), y - y.mean()
        self._own = self._distances(self._z)

    def fit(self, width: float, strength: float) -> Callable[[np.ndarray], np.ndarray]:
        """A function of (M, C) to (M,)."""
        kernel = np.exp(-self._own / (2 * width**2))
        kernel[np.diag_indices_from(kernel)] += strength
        weights = cho_solve(cho_factor(kernel, lower=True, overwrite_a=True), self._error)

        def predict(x: np.ndarray) -> np.ndarray:
            distances = self._distances((x - self._shift) * self._scale)
            return np.exp(-distances / (2 * width**2)) @ weights + self._mean

        return predict

    def _distances(self, a):
        """Mean squared distances over features, (M, N)."""
        squares = [np.square(x).sum(axis=1) for x in (a, self._z)]
        return np.maximum(squares[0][:, None] + squares[1] - 2 * a @ self._z.T, 0.0) / a.shape[1]


def fitted(run: Run, sets: Sets) -> Tested:
    """Fit on the run's training part; width and strength are those with the highest SRCC on its validation part.

    Raises UserError where a picture has no score, or as `driqa_jax.train.stages.kept_features` does.
    """
    config = initialization.with_model(ml_collections.ConfigDict(dict(run.config)))
    model, encoders = build_model(config.model), frozen_features.encoders(config)

    def moments(source: Source, canvas: tuple[int, ...] = ()) -> np.ndarray:
        seen = ml_collections.ConfigDict(config.to_dict())
        seen.view.canvas = canvas or tuple(config.view.canvas)
        kept = KeptFeatures(seen, model, encoders, source)
        rows = [np.arange(len(source))[i : i + BLOCK] for i in range(0, len(source), BLOCK)]
        return np.concatenate([kept.read(each)["moments"] for each in rows]).astype(np.float64)

    source = run.split.assigned(sets.open(run.config["data"]))
    data = run.config["data"]
    fit, val = (select(source, data[part], data["fold"], data["min_mos"] or None) for part in ("train", "val"))
    for part in (fit, val):
        require_scores(part)
    ridge, inside = KernelRidge(moments(fit), fit.column("mos").astype(np.float64)), moments(val)
    fits = {(width, strength): ridge.fit(width, strength) for width in WIDTHS for strength in STRENGTHS}
    found = {chosen: srcc(predict(inside), val.column("mos")) for chosen, predict in fits.items()}
    # None, where it is not defined, is worse than any.
    width, strength = max(found, key=lambda chosen: -2.0 if found[chosen] is None else found[chosen])
    predict = fits[width, strength]
    return Tested(
        {AS_FITTED: lambda test, part: predict(moments(part, test.canvas))},
        {AS_FITTED: {"sha256": params_sha256(encoders["quality_encoder"]["backbone"])}},
        {
            "ridge": {"width": width, "strength": strength, "val_srcc": found[width, strength]},
            "view": {**view_rule(config, config.view.eval_tiles).to_dict(), "canvases": [list(config.view.canvas)]},
        },
    )
