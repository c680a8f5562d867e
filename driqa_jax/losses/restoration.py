"""Restoration: how far the restored picture is from the clean one."""

import jax
import jax.numpy as jnp

from driqa_jax.losses.inputs import require_shape, wide


def charbonnier(restored: jax.Array, clean: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Mean Charbonnier distance, `sqrt((restored - clean)^2 + eps^2)`: L1 that is smooth at 0.

    Args:
      restored: any shape, float, normally `(B, H, W, 3)` in [0, 1].
      clean: the same shape.
      eps: where it turns from square to linear, in units of the picture; the least value.

    Returns:
      Scalar float32, at least `eps`.

    Raises:
      ValueError: the shapes differ.

    Source: Charbonnier et al., ICIP 1994; eps 1e-3 as in Lai et al., LapSRN, CVPR 2017.
    """
    require_shape("charbonnier", "clean", clean, "restored", jnp.shape(restored))
    difference = wide(restored) - wide(clean)
    return jnp.mean(jnp.sqrt(difference * difference + eps * eps))
