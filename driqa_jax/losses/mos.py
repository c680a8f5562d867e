"""Fitting human scores: absolute error (L1), linear correlation (PLCC), and order (rank hinge)."""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import require_rank, require_shape, wide

# Scores with a standard deviation below 1e-3 (a tenth of a point of 100) count as constant in the correlation.
SMALLEST_VARIANCE = 1e-6


def mos_l1(pred: jax.Array, mos: jax.Array) -> jax.Array:
    """Mean absolute error of `(B,)` predictions against `(B,)` MOS -> scalar float32, in units of MOS."""
    _require_scores("mos_l1", pred, mos)
    return jnp.mean(jnp.abs(wide(pred) - wide(mos)))


def plcc_loss(pred: jax.Array, mos: jax.Array) -> jax.Array:
    """`(1 - r) / 2` with `r` the Pearson correlation of `(B,)` and `(B,)` -> scalar float32 in [0, 1].

    It compares samples, so pass the global batch. Constant predictions or scores, and a batch of one, count as
    `r = 0`, which gives 0.5 with a finite gradient.
    """
    _require_scores("plcc_loss", pred, mos)
    pred, mos = wide(pred), wide(mos)
    pred, mos = pred - jnp.mean(pred), mos - jnp.mean(mos)
    # A floor instead of an added epsilon keeps r exact for scores that vary.
    spread = [jnp.sqrt(jnp.maximum(jnp.mean(x * x), SMALLEST_VARIANCE)) for x in (pred, mos)]
    r = jnp.mean(pred * mos) / (spread[0] * spread[1])
    return (1.0 - r) / 2.0


def rank_hinge(better: jax.Array, worse: jax.Array, margin: float = 0.03) -> jax.Array:
    """Mean `max(0, margin - (better - worse))` over `(R,)` pairs of predicted scores -> scalar float32.

    `better[i]` and `worse[i]` are predictions for one photo at two severities. R = 0 gives 0. The margin is in units
    of MOS.
    """
    require_rank("rank_hinge", "better", better, "(R,)")
    require_shape("rank_hinge", "worse", worse, "better", jnp.shape(better))
    pairs = max(jnp.shape(better)[0], 1)
    return jnp.sum(jax.nn.relu(margin - (wide(better) - wide(worse)))) / pairs


def _require_scores(loss: str, pred: jax.Array, mos: jax.Array) -> None:
    require_shape(loss, "mos", mos, "pred", jnp.shape(pred))
    require_rank(loss, "pred", pred, "(B,)")
