"""Similarities between vectors, and a softmax over the admissible ones alone."""

import jax
import jax.numpy as jnp

from driqa_jax.losses.inputs import wide

# Vectors shorter than 1e-4 are scaled by 1e4 instead of being normalised: no division by zero, finite
# gradients.
SHORTEST_SQUARED = 1e-8
# Finite, so that a row without any admissible entry makes no NaN on the way and jax_debug_nans stays usable.
INADMISSIBLE = -1e30


def unit(z: jax.Array) -> jax.Array:
    """`(..., C)` vectors -> `(..., C)` float32 of length 1; a zero vector stays zero."""
    z = wide(z)
    squared = jnp.sum(z * z, axis=-1, keepdims=True)
    return z * jax.lax.rsqrt(jnp.maximum(squared, SHORTEST_SQUARED))


def similarities(a: jax.Array, b: jax.Array, tau: float) -> jax.Array:
    """`(M, C)`, `(N, C)` -> `(M, N)` float32 cosines divided by `tau`."""
    # Full precision: an accelerator's default rounds the products to 3 digits, and 1/tau magnifies that.
    return jnp.matmul(unit(a), unit(b).T, precision=jax.lax.Precision.HIGHEST) / tau


def masked_log_softmax(scores: jax.Array, admissible: jax.Array) -> jax.Array:
    """Log softmax along the last axis over admissible entries; 0 at the others.

    Args:
      scores: `(M, N)` float.
      admissible: `(M, N)` bool.

    Returns:
      `(M, N)` float32; a row without admissible entries is all zeros, with zero gradient.
    """
    logs = jax.nn.log_softmax(jnp.where(admissible, scores, INADMISSIBLE), axis=-1)
    return jnp.where(admissible, logs, 0.0)


def mean_over(values: jax.Array, kept: jax.Array) -> jax.Array:
    """`values` float and `kept` bool of one shape -> scalar: the mean of the kept, 0 if there is none."""
    count = jnp.maximum(jnp.sum(kept), 1)
    return jnp.sum(jnp.where(kept, values, 0.0)) / count
