"""Restoration: the distance of the restored image from the clean one."""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import require_rank, require_shape, wide


def charbonnier(restored: jax.Array, clean: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Mean Charbonnier distance, `sqrt((restored - clean)^2 + eps^2)`: an L1 that is smooth at 0.

    Args:
      restored: any shape, float, normally `(B, H, W, 3)` in [0, 1].
      clean: the same shape.
      eps: the minimum, and the error at which the distance turns from quadratic to linear; in units of the image.

    Returns:
      Scalar float32, at least `eps`.

    Source: Charbonnier et al., ICIP 1994; eps 1e-3 as in Lai et al., LapSRN, CVPR 2017.
    """
    require_shape("charbonnier", "clean", clean, "restored", jnp.shape(restored))
    difference = wide(restored) - wide(clean)
    return jnp.mean(jnp.sqrt(difference * difference + eps * eps))


def psnr_loss(restored: jax.Array, clean: jax.Array, eps: float = 1e-5) -> jax.Array:
    """Mean dB by which the PSNR stays below its bound; every image weighs the same, however degraded.

    Args:
      restored: `(M, H, W, C)` float, normally in [0, 1].
      clean: the same shape.
      eps: added to the mean squared error. With 1e-5 the bound is 50 dB, so nearly clean images stop pulling.

    Returns:
      Scalar float32, at least 0: `10 log10((MSE + eps) / eps)`.

    Source: HINet (Chen et al., CVPRW 2021) and NAFNet (ECCV 2022) train on PSNR; the bound is ours.
    """
    require_rank("psnr_loss", "restored", restored, "(M, H, W, C)")
    require_shape("psnr_loss", "clean", clean, "restored", jnp.shape(restored))
    squares = jnp.square(wide(restored) - wide(clean)).mean(axis=(1, 2, 3))
    return 10 / jnp.log(10.0) * jnp.log1p(squares / eps).mean()


# The values of `config.loss.restoration_distance`.
DISTANCES = {"charbonnier": charbonnier, "psnr": psnr_loss}
