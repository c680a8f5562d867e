"""Naming the degradations: which types are present, and how severe each of these is."""

import jax
import jax.numpy as jnp
import optax

from driqa_jax.losses._common import mean_over
from driqa_jax.losses.inputs import require_rank, require_shape, wide


def naming_loss(
    logits: jax.Array,
    severity_hat: jax.Array,
    present: jax.Array,
    severity: jax.Array,
    beta: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Type and severity losses; a chain holds several types, so every type is a yes-or-no question of its
    own.

    Args:
      logits: `(M, T)` float, *before* the sigmoid.
      severity_hat: `(M, T)` float, predicted severities in [0, 1].
      present: `(M, T)` bool, or float 0 and 1; a clean picture has none.
      severity: `(M, T)` float in [0, 1], read where `present` alone.
      beta: smooth-L1 is quadratic below this error, linear above.

    Returns:
      `(type_loss, severity_loss)`, scalars float32: sigmoid cross-entropy averaged over all M*T questions,
      and smooth-L1 averaged over the types present (0 with zero gradient where none is).

    Raises:
      ValueError: `logits` is not `(M, T)`, or another argument has another shape.
    """
    require_rank("naming_loss", "logits", logits, "(M, T)")
    others = {"severity_hat": severity_hat, "present": present, "severity": severity}
    for name, array in others.items():
        require_shape("naming_loss", name, array, "logits", jnp.shape(logits))
    present = wide(present)
    type_loss = jnp.mean(optax.sigmoid_binary_cross_entropy(wide(logits), present))
    there = present > 0
    # An absent type's severity may be anything, NaN included; replaced before it meets the arithmetic.
    target = jnp.where(there, wide(severity), 0.0)
    errors = optax.huber_loss(wide(severity_hat), target, delta=beta) / beta
    return type_loss, mean_over(errors, there)
