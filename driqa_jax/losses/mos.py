"""Fitting human scores: absolute error (L1), linear correlation (PLCC), and order (rank hinge)."""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import mean_over, require_shapes, wide

# Scores with a standard deviation below 1e-3 (a tenth of a point of 100) count as constant in the correlation.
SMALLEST_VARIANCE = 1e-6


def mos_l1(pred: jax.Array, mos: jax.Array) -> jax.Array:
    """Mean absolute error of `(B,)` predictions against `(B,)` MOS -> scalar float32, in units of MOS."""
    require_shapes("mos_l1", None, {"pred": pred, "mos": mos})
    require_shapes("mos_l1", "(B,)", {"pred": pred})
    return jnp.mean(jnp.abs(wide(pred) - wide(mos)))


def plcc_loss(pred: jax.Array, mos: jax.Array, dataset: jax.Array | None = None) -> jax.Array:
    """`(1 - r) / 2` with `r` the Pearson correlation of `(B,)` and `(B,)` -> scalar float32 in [0, 1].

    It compares samples, so pass the global batch. Constant predictions or scores, and a batch of one, count as
    `r = 0`, which gives 0.5 with a finite gradient. With `dataset` `(B,)` int, only samples of one data set are
    compared, and `r` is the mean over samples of the correlation within their data set.
    """
    require_shapes("plcc_loss", None, {"pred": pred, "mos": mos})
    require_shapes("plcc_loss", "(B,)", {"pred": pred}, {} if dataset is None else {"dataset": dataset})

    def mean(x: jax.Array) -> jax.Array:
        if dataset is None:
            return jnp.mean(x)
        return jax.vmap(mean_over, (None, 0))(x, dataset[:, None] == dataset[None, :])

    pred, mos = (x - mean(x) for x in (wide(pred), wide(mos)))
    # A floor instead of an added epsilon keeps r exact for scores that vary.
    spread = [jnp.sqrt(jnp.maximum(mean(x * x), SMALLEST_VARIANCE)) for x in (pred, mos)]
    r = mean(pred * mos) / (spread[0] * spread[1])
    return (1.0 - jnp.mean(r)) / 2.0


def rank_hinge(better: jax.Array, worse: jax.Array, margin: float = 0.03) -> jax.Array:
    """Mean `max(0, margin - (better - worse))` over `(R,)` pairs of predicted scores -> scalar float32.

    `better[i]` and `worse[i]` are predictions for one photo at two severities. R = 0 gives 0. The margin is in units
    of MOS.
    """
    require_shapes("rank_hinge", "(R,)", {"better": better, "worse": worse})
    pairs = max(jnp.shape(better)[0], 1)
    return jnp.sum(jax.nn.relu(margin - (wide(better) - wide(worse)))) / pairs
