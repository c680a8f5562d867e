"""The Representation-based Semantic (RS) loss: degradation and quality vectors agree on meaning.

The paper's abstract (arXiv 2411.17390) names such a loss and its purpose, an effective interaction between
the two representations. Its formula is not public: everything here is our reconstruction, not the paper's
formula.
"""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import masked_log_softmax, mean_over, similarities, unit
from driqa_jax.losses.inputs import require_rank, require_shape, wide


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
    """Contrast with soft targets: photos of like quality are near, across the two representations.

    With `S_ij = cos(u_i, v_j) / tau` and, for each `i`, over the admissible `j`,

        T_ij = softmax_j( -(y_i - y_j)^2 / (2 sigma^2) + kappa [c_i == c_j] )
        L    = -1/(2 B') sum_ij T_ij ( log softmax_j S_ij + log softmax_j S_ji )

    Admissible are other photos of the same data set: scales of two data sets cannot be compared, and the
    diagonal is masked, or "each photo is most like itself" would be the largest target. The `B'` rows that
    have a partner are averaged; the others are left out (so a row is taken out by giving it a data set number
    of its own). The least value is the mean entropy of `T`, not 0. Projections carry the agreement, so that
    the vectors themselves may stay separate.

    Our reconstruction from the abstract of arXiv 2411.17390, not the paper's formula.

    Args:
      u: `(B, P)` float, projected quality vectors after the interaction, any length; normalised here.
      v: `(B, P)` float, projected degradation vectors, likewise.
      y: `(B,)` float, the score's percentile within its data set, in [0, 1].
      dataset: `(B,)` int.
      tau: temperature of the similarities, above 0.
      sigma: width of "like quality", in units of `y`. At 0.1 and a batch of 32 the targets are nearly flat.
      degradation_class: `(B,)` int, the kind of degradation, negative where unknown; None: nowhere known.
      kappa: what a shared known class adds to a target's logit.

    Returns:
      Scalar float32, at least 0; 0 with zero gradient where no row has a partner.

    Raises:
      ValueError: `u` is not `(B, P)`, `v` has another shape, or a label is not `(B,)`.
    """
    require_rank("soft_nce", "u", u, "(B, P)")
    require_shape("soft_nce", "v", v, "u", jnp.shape(u))
    rows = jnp.shape(u)[:1]
    labels = {"y": y, "dataset": dataset}
    if degradation_class is not None:
        labels["degradation_class"] = degradation_class
    for name, array in labels.items():
        require_shape("soft_nce", name, array, f"u {jnp.shape(u)}", rows)
    y, dataset = wide(y), jnp.asarray(dataset)
    admissible = (dataset[:, None] == dataset[None, :]) & ~jnp.eye(rows[0], dtype=bool)
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
    """Each vector nearer to another view of its photo than to the photo whose score is farthest.

    With vectors of length 1, `z-` that of the photo whose score lies farthest among those of the same data set, and
    `sg` stopping gradients,

        L = mean_i (|z_i - sg(z+_i)|_1 + eps) / (|z_i - sg(z-_i)|_1 + eps)

    Rows with nobody in their data set whose score differs are left out. Vectors that all collapse to one give 1, no
    gain over any others. The form is that of the representation loss of the authors' earlier system (arXiv 2305.03997),
    `eps` above as well as below, for that reason, our addition.

    Args:
      z: `(B, C)` float, any length; normalised here.
      positive: `(B, C)` float, the same of another view of each photo.
      y: `(B,)` float, the score's percentile within its data set.
      dataset: `(B,)` int.
      eps: in units of the distance, which is at most `2 sqrt(C)`.

    Returns:
      Scalar float32, above 0; 0 with zero gradient where no row counts.

    Raises:
      ValueError: `z` is not `(B, C)`, or another argument has another shape.
    """
    require_rank("ratio", "z", z, "(B, C)")
    require_shape("ratio", "positive", positive, "z", jnp.shape(z))
    rows = jnp.shape(z)[:1]
    for name, array in {"y": y, "dataset": dataset}.items():
        require_shape("ratio", name, array, f"z {jnp.shape(z)}", rows)
    y, dataset = wide(y), jnp.asarray(dataset)
    gaps = jnp.where(dataset[:, None] == dataset[None, :], jnp.abs(y[:, None] - y[None, :]), -1.0)
    farthest = jnp.argmax(gaps, axis=1)
    values = _nearer(unit(z), unit(positive), unit(z)[farthest], eps)
    return mean_over(values, jnp.max(gaps, axis=1) > 0)


def restored_ratio(
    restored: jax.Array, clean: jax.Array, degraded: jax.Array, counted: jax.Array, eps: float = 0.1
) -> jax.Array:
    """The restored picture's vector nearer to the clean picture's than to the degraded one's.

    As `ratio`, with `z` of the restored picture, `z+` of the clean and `z-` of the degraded one. Synthetic pairs alone
    have a clean picture, and only a restorer that is trained learns from it.

    Args:
      restored, clean, degraded: `(M, C)` float vectors, any length; the gradient reaches `restored` alone.
      counted: `(M,)` bool; false for a picture that was not degraded, whose `z+` and `z-` are one.
      eps: as in `ratio`.

    Returns:
      Scalar float32, above 0; 0 with zero gradient where no row counts.

    Raises:
      ValueError: `restored` is not `(M, C)`, or another argument has another shape.
    """
    require_rank("restored_ratio", "restored", restored, "(M, C)")
    for name, array in {"clean": clean, "degraded": degraded}.items():
        require_shape("restored_ratio", name, array, "restored", jnp.shape(restored))
    require_shape("restored_ratio", "counted", counted, f"restored {jnp.shape(restored)}", jnp.shape(restored)[:1])
    return mean_over(_nearer(unit(restored), unit(clean), unit(degraded), eps), counted)


def _nearer(z: jax.Array, positive: jax.Array, negative: jax.Array, eps: float) -> jax.Array:
    near, far = (jnp.abs(z - jax.lax.stop_gradient(x)).sum(axis=1) + eps for x in (positive, negative))
    return near / far
