"""Too much sharpness: an unsharp mask overdone, and the ripples of a hard low-pass."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.filters import convolve, filter_spectrum, gaussian_kernel

SHARPEN_AMOUNT = 12.0  # KADID-10k level 5
SHARPEN_SIGMA = 1.5  # px; ours
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
RINGING_PASS = 0.75  # cycles/px; the corner of the spectrum is 0.707
RINGING_CUTOFF = 0.08  # cycles/px at severity 1; ours


def high_sharpen(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Unsharp mask on luma: add 12 * severity**1.5 times (luma - its Gaussian blur) to each channel.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range: KADID-10k #24 has amounts 1, 2, 3, 6, 12 on CIELAB lightness; sigma is ours.
    """
    del key
    luma = (image * jnp.asarray(LUMA, image.dtype)[None, None, :]).sum(axis=-1, keepdims=True)
    detail = luma - convolve(luma, gaussian_kernel(SHARPEN_SIGMA, radius=6))
    return jnp.clip(image + SHARPEN_AMOUNT * severity**1.5 * detail, 0.0, 1.0)


def ringing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Ripples beside edges: a hard circular low-pass that cuts at 0.75 * (0.08/0.75)**severity cycles/px.

    The edge of the pass band is 0.02 cycles/px wide, so ripples fade within about 40 px.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range: ours (Real-ESRGAN's sinc kernels cut between .17 and .5 cycles/px). Not among KADID-10k's types.
    """
    del key
    cutoff = RINGING_PASS * (RINGING_CUTOFF / RINGING_PASS) ** jnp.asarray(severity, jnp.float32)

    def transfer(size: tuple[int, int]) -> jax.Array:
        rows, columns = jnp.fft.fftfreq(size[0]), jnp.fft.rfftfreq(size[1])
        frequency = jnp.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)
        return jnp.clip((cutoff - frequency) / 0.02 + 0.5, 0.0, 1.0)

    return jnp.clip(filter_spectrum(image, 16, transfer), 0.0, 1.0)
