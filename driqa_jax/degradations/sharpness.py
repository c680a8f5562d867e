"""Excess sharpness: strong unsharp masking, and the ripples of a hard low-pass filter."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.filters import convolve, filter_spectrum, gaussian_kernel

SHARPEN_AMOUNT = 12.0  # KADID-10k level 5
SHARPEN_SIGMA = 1.5  # px; ours
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
RINGING_PASS = 0.75  # cycles/px; the corner of the spectrum is 0.707
RINGING_CUTOFF = 0.08  # cycles/px at severity 1; ours


def luma_detail(image: jax.Array, sigma: float, radius: int) -> jax.Array:
    """Luma minus its Gaussian blur of `sigma` pixels, cut at `radius` pixels: (H, W, 3) -> (H, W, 1) float32."""
    luma = (image * jnp.asarray(LUMA, image.dtype)[None, None, :]).sum(axis=-1, keepdims=True)
    return luma - convolve(luma, gaussian_kernel(sigma, radius))


@degradation(23, "sharpness", kadid_levels=severities((1, 2, 3, 6, 12), SHARPEN_AMOUNT, 1.5))
def high_sharpen(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Unsharp mask on luma: add 12 * severity**1.5 times (luma - its Gaussian blur) to each channel.

    Range: KADID-10k #24 has amounts 1, 2, 3, 6, 12 on CIELAB lightness; sigma is ours.
    """
    detail = luma_detail(image, SHARPEN_SIGMA, 6)
    return jnp.clip(image + SHARPEN_AMOUNT * severity**1.5 * detail, 0.0, 1.0)


@degradation(29, "sharpness")
def ringing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Ripples beside edges: a hard circular low-pass that cuts at 0.75 * (0.08/0.75)**severity cycles/px.

    The edge of the pass band is 0.02 cycles/px wide, so ripples fade within about 40 px.
    Range: ours (Real-ESRGAN's sinc kernels cut between 0.17 and 0.5 cycles/px); not a KADID-10k type.
    """
    cutoff = RINGING_PASS * (RINGING_CUTOFF / RINGING_PASS) ** jnp.asarray(severity, jnp.float32)

    def transfer(size: tuple[int, int]) -> jax.Array:
        rows, columns = jnp.fft.fftfreq(size[0]), jnp.fft.rfftfreq(size[1])
        frequency = jnp.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)
        return jnp.clip((cutoff - frequency) / 0.02 + 0.5, 0.0, 1.0)

    return jnp.clip(filter_spectrum(image, 16, transfer), 0.0, 1.0)
