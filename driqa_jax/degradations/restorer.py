"""What restorers leave: a denoiser's blotches, a denoiser's plastic surfaces, a sharpener's halos."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations import draws
from driqa_jax.degradations.filters import box_mean, convolve, gaussian_kernel
from driqa_jax.degradations.sharpness import LUMA

DENOISED_SIGMA = 0.4  # of the noise before denoising; KADID-10k level 5 is .387
WIENER_RADIUS = 4  # px: 9x9
SMOOTHED_SIGMA = 0.2  # contrast below which a texture counts as noise, at severity 1; ours
SMOOTHING_RADIUS = 8  # px: 17x17; ours
HALO_AMOUNT = 4.0  # ours
HALO_SIGMA = 6.0  # px; ours
HALO_LIMIT = 0.25  # the brightest halo, of full scale; ours


def _moments(image: jax.Array, radius: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance in the (2r+1)-wide window around each pixel, (H, W, C) both."""
    # One filter over both, which XLA:CPU compiles into half the work of two.
    mean, square = jnp.split(box_mean(jnp.concatenate([image, image * image], axis=-1), radius), 2, axis=-1)
    return mean, jnp.maximum(square - mean * mean, 0.0)


def local_wiener(image: jax.Array, variance: jax.Array) -> jax.Array:
    """Lee's filter, the local Wiener filter in the pixel domain: mean + max(v - n, 0) / v * (image - mean).

    The mean and v, the variance, are those of the 9x9 window, n is the noise's. image: float32 (H, W, C).
    variance: scalar, n. Returns float32 (H, W, C). Source: Lim, Two-Dimensional Signal and Image Processing (1990),
    eq. 9.44; scipy.signal.wiener.
    """
    mean, spread = _moments(image, WIENER_RADIUS)
    # The floor only guards 0 / 0: a flat window without noise is left as it is.
    return image - variance / jnp.maximum(jnp.maximum(spread, variance), 1e-12) * (image - mean)


def denoise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """White noise of sigma 0.4 * severity, clipped, then a local Wiener filter that knows sigma.

    The key draws the noise. image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1].
    Returns float32 (H, W, 3).
    Range: KADID-10k #15 has variances .01, .03, .05, .1, .15 (sigma .1 to .387) and a trained network (DnCNN) as
    its denoiser.
    """
    sigma = DENOISED_SIGMA * severity
    noisy = jnp.clip(image + sigma * draws.normal(key, image.shape), 0.0, 1.0)
    return jnp.clip(local_wiener(noisy, sigma**2), 0.0, 1.0)


def guided_smoothing(image: jax.Array, variance: jax.Array) -> jax.Array:
    """The guided filter with the image as its own guide: smooth where the local variance is below `variance`.

    Windows of 17x17. image: float32 (H, W, C). variance: scalar, epsilon. Returns float32 (H, W, C).
    Source: He, Sun and Tang, Guided Image Filtering (2010), eq. 5 to 8.
    """
    mean, spread = _moments(image, SMOOTHING_RADIUS)
    # The share that goes, 0 at variance 0; the floor only guards 0 / 0.
    lost = variance / jnp.maximum(spread + variance, 1e-12)
    return image - box_mean(lost, SMOOTHING_RADIUS) * image + box_mean(lost * mean, SMOOTHING_RADIUS)


def over_smoothing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Surfaces without texture between kept edges, as too strong a denoiser leaves: a guided filter.

    Its epsilon is (0.2 * severity)**2: texture of less contrast than that goes.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3). Range: ours. Not among KADID-10k's types.
    """
    del key
    return jnp.clip(guided_smoothing(image, (SMOOTHED_SIGMA * severity) ** 2), 0.0, 1.0)


def halo(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Bright and dark bands beside edges: a wide unsharp mask on luma, its overshoot limited.

    Adds clip(4 * severity * (luma - its blur of sigma 6 px), +-0.25) to each channel.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3). Range: ours. Not among KADID-10k's types.
    """
    del key
    luma = (image * jnp.asarray(LUMA, image.dtype)[None, None, :]).sum(axis=-1, keepdims=True)
    detail = luma - convolve(luma, gaussian_kernel(HALO_SIGMA, radius=18))
    return jnp.clip(image + jnp.clip(HALO_AMOUNT * severity * detail, -HALO_LIMIT, HALO_LIMIT), 0.0, 1.0)
