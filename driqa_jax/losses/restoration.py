"""Restoration: how far the restored picture is from the clean one."""

import jax
import jax.numpy as jnp

from driqa_jax.losses.inputs import require_rank, require_shape, wide


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


def psnr_loss(restored: jax.Array, clean: jax.Array, eps: float = 1e-5) -> jax.Array:
    """How many dB the PSNR stays below its best, a mean over pictures: every picture counts alike, however degraded.

    Args:
      restored: `(M, H, W, C)` float, normally in [0, 1].
      clean: the same shape.
      eps: added to the mean squared error; with 1e-5 the best is 50 dB, and what is clean enough pulls no more.

    Returns:
      Scalar float32, at least 0: `10 log10((MSE + eps) / eps)`.

    Raises:
      ValueError: the shapes differ, or have not four axes.

    Source: HINet (Chen et al., CVPRW 2021) and NAFNet (ECCV 2022) train on PSNR; the bound is ours.
    """
    require_rank("psnr_loss", "restored", restored, "(M, H, W, C)")
    require_shape("psnr_loss", "clean", clean, "restored", jnp.shape(restored))
    squares = jnp.square(wide(restored) - wide(clean)).mean(axis=(1, 2, 3))
    return 10 / jnp.log(10.0) * jnp.log1p(squares / eps).mean()


# The values of `config.loss.restoration_distance`.
DISTANCES = {"charbonnier": charbonnier, "psnr": psnr_loss}
