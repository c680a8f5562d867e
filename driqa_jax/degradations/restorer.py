"""Artifacts of restorers: a denoiser's blotches, a denoiser's plastic surfaces, a sharpener's halos."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.filters import box_mean
from driqa_jax.degradations.noise import normal
from driqa_jax.degradations.sharpness import luma_detail

DENOISED_SIGMA = 0.4  # of the noise before denoising; KADID-10k level 5 is 0.387
WIENER_RADIUS = 4  # px: 9x9
SMOOTHED_SIGMA = 0.2  # contrast below which texture counts as noise, at severity 1; ours
SMOOTHING_RADIUS = 8  # px: 17x17; ours
HALO_AMOUNT = 4.0  # ours
HALO_SIGMA = 6.0  # px; ours
HALO_LIMIT = 0.25  # of full scale; ours


def _moments(image: jax.Array, radius: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance in the (2r+1)-wide window around each pixel, (H, W, C) both."""
    # XLA:CPU compiles one filter over both into half the work of two filters.
    mean, square = jnp.split(box_mean(jnp.concatenate([image, image * image], axis=-1), radius), 2, axis=-1)
    return mean, jnp.maximum(square - mean * mean, 0.0)


def local_wiener(image: jax.Array, variance: jax.Array) -> jax.Array:
    """Lee's local Wiener filter of (H, W, C) float32: mean + max(v - n, 0) / v * (image - mean).

    The mean and the variance v are those of the 9x9 window; n is the scalar noise `variance`.
    Source: Lim, Two-Dimensional Signal and Image Processing (1990), eq. 9.44; scipy.signal.wiener.
    """
    mean, spread = _moments(image, WIENER_RADIUS)
    # The floor only prevents 0 / 0: a flat window without noise stays unchanged.
    return image - variance / jnp.maximum(jnp.maximum(spread, variance), 1e-12) * (image - mean)


@degradation(14, "restorer", kadid_levels=severities((0.01, 0.03, 0.05, 0.1, 0.15), DENOISED_SIGMA**2, 2))
def denoise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """White noise of sigma 0.4 * severity, clipped, then a local Wiener filter that knows sigma.

    The key draws the noise. Range: KADID-10k #15 has variances 0.01, 0.03, 0.05, 0.1, 0.15 (sigma 0.1 to 0.387) and a
    trained network (DnCNN) as its denoiser.
    """
    sigma = DENOISED_SIGMA * severity
    noisy = jnp.clip(image + sigma * normal(key, image.shape), 0.0, 1.0)
    return jnp.clip(local_wiener(noisy, sigma**2), 0.0, 1.0)


def guided_smoothing(image: jax.Array, variance: jax.Array) -> jax.Array:
    """Guided filter of (H, W, C) float32 as its own guide: smooths where the variance in a 17x17 window is low.

    The scalar `variance` is the filter's epsilon.
    Source: He, Sun and Tang, Guided Image Filtering (2010), eq. 5 to 8.
    """
    mean, spread = _moments(image, SMOOTHING_RADIUS)
    # The removed share, 0 at variance 0; the floor only prevents 0 / 0.
    lost = variance / jnp.maximum(spread + variance, 1e-12)
    return image - box_mean(lost, SMOOTHING_RADIUS) * image + box_mean(lost * mean, SMOOTHING_RADIUS)


@degradation(32, "restorer")
def over_smoothing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Surfaces without texture between sharp edges, as an over-strong denoiser leaves them: a guided filter.

    Its epsilon is (0.2 * severity)**2, which removes texture of lower contrast than 0.2 * severity.
    Range: ours; not a KADID-10k type.
    """
    return jnp.clip(guided_smoothing(image, (SMOOTHED_SIGMA * severity) ** 2), 0.0, 1.0)


@degradation(33, "restorer", ordered=False)
def halo(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Bright and dark bands beside edges: a wide unsharp mask on luma with limited overshoot.

    Adds clip(4 * severity * (luma - its blur of sigma 6 px), +-0.25) to each channel.
    Range: ours; not a KADID-10k type.
    """
    detail = luma_detail(image, HALO_SIGMA, 18)
    return jnp.clip(image + jnp.clip(HALO_AMOUNT * severity * detail, -HALO_LIMIT, HALO_LIMIT), 0.0, 1.0)
