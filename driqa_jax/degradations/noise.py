"""Noises: white, impulse, and the signal-dependent noise of a sensor. The key draws every pixel."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.color import linear_to_srgb, srgb_to_linear

WHITE_SIGMA = 0.15  # in units of full scale (38 grey levels); ours
IMPULSE_DENSITY = 0.1  # share of samples; ours
SHOT_GAIN = 0.03  # variance per unit of linear light; ours
READ_SIGMA = 0.008  # linear light; ours


def white_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Add independent Gaussian noise of sigma 0.15 * severity to every channel of every pixel.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #11 has variances .001, .002, .003, .005, .01 (sigma .032 to .1); above that ours.
    """
    noise = jax.random.normal(key, image.shape, image.dtype)
    return jnp.clip(image + WHITE_SIGMA * severity * noise, 0.0, 1.0)


def impulse_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Salt and pepper: a share 0.1 * severity of the samples becomes 0 or 1, half each.

    A sample is one channel of a pixel. With one key, those hit at a severity are hit at every higher one.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #13 has densities .001, .005, .01, .02, .03; above that ours.
    """
    draw = jax.random.uniform(key, image.shape, image.dtype)
    half = IMPULSE_DENSITY * severity / 2
    return jnp.where(draw < half, 0.0, jnp.where(draw >= 1.0 - half, 1.0, image))


def sensor_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Photon and read noise of a camera at high gain, added in linear light.

    Variance in linear light: (0.03 * light + 0.008**2) * severity**2, about 33 photons at white for
    severity 1; normal approximation of the Poisson law.
    image: float32 (H, W, 3) sRGB in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: ours. Not among KADID-10k's types.
    """
    light = srgb_to_linear(image)
    sigma = severity * jnp.sqrt(SHOT_GAIN * light + READ_SIGMA**2)
    noisy = light + sigma * jax.random.normal(key, image.shape, image.dtype)
    return jnp.clip(linear_to_srgb(jnp.clip(noisy, 0.0, 1.0)), 0.0, 1.0)
