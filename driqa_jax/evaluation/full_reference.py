"""Full-reference metrics in JAX: PSNR and SSIM."""

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.degradations.sharpness import LUMA

PERFECT_MSE = 1e-8  # a smaller mean squared error counts as zero: 80 dB
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window
C1, C2 = 0.01**2, 0.03**2


def psnr(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB, at most 80, over all channels.

    image, reference: (..., H, W, 3) float in [0, 1]; `image` is clipped. Returns (...) float32.
    """
    error = jnp.square(jnp.clip(image, 0.0, 1.0) - reference).mean(axis=(-3, -2, -1))
    return -10.0 * jnp.log10(jnp.maximum(error, PERFECT_MSE))


def ssim(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Structural similarity of luma, at most 1; the mean over windows inside the image.

    image, reference: (..., H, W, 3) float in [0, 1], sides at least 11; `image` is clipped. Returns (...) float32.

    Source: Wang et al., IEEE TIP 13(4), 2004: Gaussian window of 11x11, sigma 1.5, K1 .01, K2 .03.
    """
    luma = jnp.asarray(LUMA, jnp.float32)
    x, y = (jnp.tensordot(part, luma, axes=1) for part in (jnp.clip(image, 0.0, 1.0), reference))
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return (similarity / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))).mean(axis=(-2, -1))


def _windowed(plane: jax.Array) -> jax.Array:
    """Gaussian-weighted mean of each window without padding: (..., H, W) -> (..., H - 10, W - 10)."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    for axis in (-2, -1):
        size = plane.shape[axis] - 2 * RADIUS
        taps = (jax.lax.slice_in_dim(plane, i, i + size, axis=plane.ndim + axis) for i in range(2 * RADIUS + 1))
        plane = sum(float(weight) * tap for weight, tap in zip(weights, taps, strict=True))
    return plane
