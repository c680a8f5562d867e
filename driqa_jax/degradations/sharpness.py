"""Too little and too much sharpness: blurs, unsharp masks, ripples; and what a denoiser or sharpener leaves of it."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, on_scale, severities
from driqa_jax.degradations.filters import box_mean, convolve, filter_spectrum, gaussian_kernel, offsets
from driqa_jax.degradations.noise import normal

GAUSSIAN_SIGMA = 5.0  # px, KADID-10k level 5
LENS_RADIUS = 8.0  # px, KADID-10k level 5
MOTION_LENGTH = 20.0  # px; ours. KADID-10k level 5 is 10, and real cameras blur further.
SHARPEN_AMOUNT = 12.0  # KADID-10k level 5
SHARPEN_SIGMA = 1.5  # px; ours
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
RINGING_PASS = 0.75  # cycles/px; the corner of the spectrum is 0.707
RINGING_CUTOFF = 0.08  # cycles/px at severity 1; ours
DENOISED_SIGMA = 0.4  # of the noise before denoising; KADID-10k level 5 is 0.387
WIENER_RADIUS = 4  # px: 9x9
SMOOTHED_SIGMA = 0.2  # contrast below which texture counts as noise, at severity 1; ours
SMOOTHING_RADIUS = 8  # px: 17x17; ours
HALO_AMOUNT = 4.0  # ours
HALO_SIGMA = 6.0  # px; ours
HALO_LIMIT = 0.25  # of full scale; ours


@degradation(0, "blur", kadid_levels=severities((0.1, 0.5, 1, 2, 5), GAUSSIAN_SIGMA))
def gaussian_blur(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Gaussian blur with sigma = 5 * severity pixels (KADID-10k #01), truncated at 15 px."""
    return jnp.clip(convolve(image, gaussian_kernel(GAUSSIAN_SIGMA * severity, radius=15)), 0.0, 1.0)


@degradation(1, "blur", kadid_levels=severities((0.5, 1.5, 3.5, 5.5, 7.5), LENS_RADIUS - 0.5))
def lens_blur(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Out-of-focus blur by an antialiased disc of radius 0.5 + 7.5 * severity pixels.

    A radius of 0.5 px is the pixel itself. Range: KADID-10k #02 has radius 1, 2, 4, 6, 8.
    """
    radius = 0.5 + (LENS_RADIUS - 0.5) * severity
    y, x = offsets(9)
    disc = jnp.clip(radius + 0.5 - jnp.sqrt(y * y + x * x), 0.0, 1.0)
    return jnp.clip(convolve(image, disc), 0.0, 1.0)


@degradation(2, "blur", kadid_levels=severities((1, 2, 4, 6, 10), MOTION_LENGTH), chain_key=True)
def motion_blur(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Straight motion blur, 20 * severity pixels long. The key draws the angle uniformly over half a turn.

    Range: KADID-10k #03 has lengths 1, 2, 4, 6, 10; the upper half is ours.
    """
    angle = jax.random.uniform(key, maxval=jnp.pi)
    y, x = offsets(11)
    along = jnp.maximum(jnp.abs(x * jnp.cos(angle) + y * jnp.sin(angle)) - MOTION_LENGTH * severity / 2, 0.0)
    across = y * jnp.cos(angle) - x * jnp.sin(angle)
    # The weight is one pixel minus the distance to the segment, as in MATLAB's fspecial("motion").
    line = jnp.maximum(1.0 - jnp.sqrt(along**2 + across**2), 0.0)
    return jnp.clip(convolve(image, line), 0.0, 1.0)


def luma_detail(image: jax.Array, sigma: float, radius: int) -> jax.Array:
    """Luma minus its Gaussian blur of `sigma` pixels, cut at `radius` pixels: (H, W, 3) -> (H, W, 1) float32."""
    luma = (image * jnp.asarray(LUMA, image.dtype)[None, None, :]).sum(axis=-1, keepdims=True)
    return luma - convolve(luma, gaussian_kernel(sigma, radius))


@degradation(23, "sharpness", kadid_levels=severities((1, 2, 3, 6, 12), SHARPEN_AMOUNT, 1.5))
def high_sharpen(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Unsharp mask on luma (KADID-10k #24: lightness): add 12 * severity**1.5 * (luma - its blur) to each channel."""
    detail = luma_detail(image, SHARPEN_SIGMA, 6)
    return jnp.clip(image + SHARPEN_AMOUNT * severity**1.5 * detail, 0.0, 1.0)


@degradation(29, "sharpness")
def ringing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Ripples beside edges: a hard circular low-pass that cuts at 0.75 * (0.08/0.75)**severity cycles/px.

    The edge of the pass band is 0.02 cycles/px wide, so ripples fade within about 40 px.
    Range: ours (Real-ESRGAN's sinc kernels cut between 0.17 and 0.5 cycles/px); not a KADID-10k type.
    """
    cutoff = on_scale(severity, RINGING_PASS, RINGING_CUTOFF)

    def transfer(size: tuple[int, int]) -> jax.Array:
        rows, columns = jnp.fft.fftfreq(size[0]), jnp.fft.rfftfreq(size[1])
        frequency = jnp.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)
        return jnp.clip((cutoff - frequency) / 0.02 + 0.5, 0.0, 1.0)

    return jnp.clip(filter_spectrum(image, 16, transfer), 0.0, 1.0)


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

    Texture of lower contrast than 0.2 * severity goes: epsilon is its square. Range: ours; not a KADID-10k type.
    """
    return jnp.clip(guided_smoothing(image, (SMOOTHED_SIGMA * severity) ** 2), 0.0, 1.0)


@degradation(33, "restorer", ordered=False)
def halo(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Bright and dark bands beside edges: a wide unsharp mask on luma with limited overshoot.

    Adds clip(4 * severity * (luma - its blur of sigma 6 px), +-0.25) to each channel. Range: ours; not of KADID-10k.
    """
    detail = luma_detail(image, HALO_SIGMA, 18)
    return jnp.clip(image + jnp.clip(HALO_AMOUNT * severity * detail, -HALO_LIMIT, HALO_LIMIT), 0.0, 1.0)
