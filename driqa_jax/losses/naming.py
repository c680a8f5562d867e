"""Naming degradations: which types are present, and how severe each of them is."""

import jax
import jax.numpy as jnp
import optax

from driqa_jax.losses._common import mean_over, require_rank, require_shape, wide


def naming_loss(
    logits: jax.Array,
    severity_hat: jax.Array,
    present: jax.Array,
    severity: jax.Array,
    beta: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Type and severity losses. A chain holds several types, so each type is a separate binary question.

    Args:
      logits: `(M, T)` float, *before* the sigmoid.
      severity_hat: `(M, T)` float, predicted severities in [0, 1].
      present: `(M, T)` bool, or float 0 and 1; all 0 for a clean image.
      severity: `(M, T)` float in [0, 1]; ignored for absent types, where it may be anything, NaN included.
      beta: error at which smooth-L1 turns from quadratic to linear.

    Returns:
      `(type_loss, severity_loss)`, scalars float32: sigmoid cross-entropy averaged over all M*T questions, and
      smooth-L1 averaged over the present types (0 with zero gradient if there are none).
    """
    require_rank("naming_loss", "logits", logits, "(M, T)")
    others = {"severity_hat": severity_hat, "present": present, "severity": severity}
    for name, array in others.items():
        require_shape("naming_loss", name, array, "logits", jnp.shape(logits))
    present = wide(present)
    type_loss = jnp.mean(optax.sigmoid_binary_cross_entropy(wide(logits), present))
    counted = present > 0
    # Replace the severities of absent types before any arithmetic, since a NaN would survive a later mask.
    target = jnp.where(counted, wide(severity), 0.0)
    errors = optax.huber_loss(wide(severity_hat), target, delta=beta) / beta
    return type_loss, mean_over(errors, counted)
