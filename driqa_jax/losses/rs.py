"""The Representation-based Semantic (RS) loss: degradation and quality vectors agree on meaning.

The paper's abstract (arXiv 2411.17390) names such a loss and its purpose, an effective interaction between the two
representations. Its formula is not public. All three forms here are our reconstructions; `RS_LOSSES`
lists them. `train/auxiliary/rs_terms.py` says which stage reads what for them.
"""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import masked_log_softmax, mean_over, require_shapes, similarities, unit, wide


def soft_nce(
    u: jax.Array,
    v: jax.Array,
    y: jax.Array,
    dataset: jax.Array,
    tau: float = 0.1,
    sigma: float = 0.05,
    degradation_class: jax.Array | None = None,
    kappa: float = 0.0,
) -> jax.Array:
    """Contrast with soft targets: across the two representations, photos of similar quality are near.

    With `S_ij = cos(u_i, v_j) / tau` and, for each `i`, over the admissible `j`,

        T_ij = softmax_j( -(y_i - y_j)^2 / (2 sigma^2) + kappa [c_i == c_j] )
        L    = -1/(2 B') sum_ij T_ij ( log softmax_j S_ij + log softmax_j S_ji )

    Only other photos of the same dataset are admissible. Scores of two datasets are not comparable, and without the
    masked diagonal "each photo is most like itself" would be the largest target. The mean runs over the `B'` rows that
    have a partner, so a unique dataset number excludes a row. The minimum is the mean entropy of `T`, not 0. The
    projections carry the agreement, so the vectors themselves may stay distinct.

    Args:
      u: `(B, P)` float, projected quality vectors after the interaction, any length; normalized here.
      v: `(B, P)` float, projected degradation vectors, likewise.
      y: `(B,)` float, the score's percentile within its dataset, in [0, 1].
      dataset: `(B,)` int.
      tau: temperature of the similarities, above 0.
      sigma: width of "similar quality", in units of `y`. At 0.1 and a batch of 32 the targets are nearly flat.
      degradation_class: `(B,)` int, negative where unknown; None if unknown everywhere.
      kappa: what a shared known class adds to a target's logit.

    Returns a float32 scalar, at least 0; 0 with zero gradient if no row has a partner.
    """
    classes = {} if degradation_class is None else {"degradation_class": degradation_class}
    require_shapes("soft_nce", "(B, P)", {"u": u, "v": v}, {"y": y, "dataset": dataset, **classes})
    y, dataset = wide(y), jnp.asarray(dataset)
    admissible = (dataset[:, None] == dataset[None, :]) & ~jnp.eye(jnp.shape(u)[0], dtype=bool)
    closeness = -jnp.square(y[:, None] - y[None, :]) / (2.0 * sigma * sigma)
    if degradation_class is not None:
        c = jnp.asarray(degradation_class)
        shared = (c[:, None] == c[None, :]) & (c[:, None] >= 0)
        closeness = closeness + kappa * shared
    targets = jnp.where(admissible, jnp.exp(masked_log_softmax(closeness, admissible)), 0.0)
    scores = similarities(u, v, tau)
    logs = masked_log_softmax(scores, admissible) + masked_log_softmax(scores.T, admissible)
    per_row = -0.5 * jnp.sum(jax.lax.stop_gradient(targets) * logs, axis=1)
    return mean_over(per_row, jnp.any(admissible, axis=1))


def ratio(z: jax.Array, positive: jax.Array, y: jax.Array, dataset: jax.Array, eps: float = 0.1) -> jax.Array:
    """Each vector is nearer to another view of its photo than to the photo with the most different score.

    With unit vectors, `z-` the vector of the photo of the same dataset whose score differs most, and `sg` stopping
    gradients,

        L = mean_i (|z_i - sg(z+_i)|_1 + eps) / (|z_i - sg(z-_i)|_1 + eps)

    Rows without a different score in their dataset do not count. Collapsed vectors give 1, so collapse gains nothing;
    that is why `eps`, our addition, appears above as well as below. The form follows the representation loss of the
    authors' earlier system (arXiv 2305.03997).

    `z` `(B, C)` float has any length and is normalized here; `positive` is the same of another view of each photo. `y`
    `(B,)` float is the score's percentile within its `dataset` `(B,)` int. `eps` is in units of the distance, which is
    at most `2 sqrt(C)`. Returns a float32 scalar, above 0; 0 with zero gradient if no row counts.
    """
    require_shapes("ratio", "(B, C)", {"z": z, "positive": positive}, {"y": y, "dataset": dataset})
    y, dataset = wide(y), jnp.asarray(dataset)
    gaps = jnp.where(dataset[:, None] == dataset[None, :], jnp.abs(y[:, None] - y[None, :]), -1.0)
    farthest = jnp.argmax(gaps, axis=1)
    values = _distance_ratio(unit(z), unit(positive), unit(z)[farthest], eps)
    return mean_over(values, jnp.max(gaps, axis=1) > 0)


def restored_ratio(
    restored: jax.Array, clean: jax.Array, degraded: jax.Array, counted: jax.Array, eps: float = 0.1
) -> jax.Array:
    """The restored image's vector is nearer to the clean image's vector than to the degraded image's.

    The form is that of `ratio`, with `z` of the restored image, `z+` of the clean one and `z-` of the degraded one. It
    needs synthetic pairs, which have a clean image, and a trainable restorer.

    `restored`, `clean` and `degraded` are `(M, C)` float vectors of any length; only `restored` receives a gradient.
    `counted` `(M,)` bool is false for an image without degradation, whose `z+` and `z-` coincide. `eps` and the result
    are as in `ratio`.
    """
    alike = {"restored": restored, "clean": clean, "degraded": degraded}
    require_shapes("restored_ratio", "(M, C)", alike, {"counted": counted})
    return mean_over(_distance_ratio(unit(restored), unit(clean), unit(degraded), eps), counted)


def _distance_ratio(z: jax.Array, positive: jax.Array, negative: jax.Array, eps: float) -> jax.Array:
    near, far = (jnp.abs(z - jax.lax.stop_gradient(x)).sum(axis=1) + eps for x in (positive, negative))
    return near / far


# The values of `config.loss.rs`, besides "none".
RS_LOSSES = {"soft_nce": soft_nce, "ratio": ratio, "restored": restored_ratio}
