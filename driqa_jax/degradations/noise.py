"""Noises: white, of colour components, impulse, speckle, and a sensor's. The key draws every pixel."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations import draws
from driqa_jax.degradations.bayer import demosaic, mosaic
from driqa_jax.degradations.lab import linear_to_srgb, srgb_to_linear

WHITE_SIGMA = 0.15  # in units of full scale (38 grey levels); ours
COMPONENT_SIGMA = 0.08  # of Y, Cb and Cr in units of 255; ours
IMPULSE_DENSITY = 0.1  # share of samples; ours
SPECKLE_SIGMA = 0.35  # relative; ours
SHOT_GAIN = 0.05  # variance per unit of linear light; ours
READ_SIGMA = 0.01  # linear light; ours

# RGB from Y (16..235 of 255), Cb and Cr (16..240), as MATLAB's ycbcr2rgb, which KADID-10k uses. ITU-R BT.601.
Y_TO_RGB = (255 / 219, 255 / 219, 255 / 219)
CB_TO_RGB = (0.0, -0.344136286 * 255 / 224, 1.772 * 255 / 224)
CR_TO_RGB = (1.402 * 255 / 224, -0.714136286 * 255 / 224, 0.0)


def white_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Add independent Gaussian noise of sigma 0.15 * severity to every channel of every pixel.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #11 has variances .001, .002, .003, .005, .01 (sigma .032 to .1); above that ours.
    """
    return jnp.clip(image + WHITE_SIGMA * severity * draws.normal(key, image.shape), 0.0, 1.0)


def white_noise_color_component(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Add independent Gaussian noise of sigma 0.08 * severity to Y, Cb and Cr of every pixel.

    The transform is linear, so the noise alone goes through its inverse: standard deviations of 1.98, 1.47 and
    2.33 times that in red, green and blue, correlated between them.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #12 has variances .0001, .0005, .001, .002, .003 (sigma .01 to .055); above that ours.
    """
    draw = COMPONENT_SIGMA * severity * draws.normal(key, image.shape)
    for component, rgb in enumerate((Y_TO_RGB, CB_TO_RGB, CR_TO_RGB)):
        image = image + draw[..., component, None] * jnp.asarray(rgb, image.dtype)[None, None, :]
    return jnp.clip(image, 0.0, 1.0)


def impulse_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Salt and pepper: a share 0.1 * severity of the samples becomes 0 or 1, half each.

    A sample is one channel of a pixel. With one key, those hit at a severity are hit at every higher one.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #13 has densities .001, .005, .01, .02, .03; above that ours.
    """
    draw = draws.uniform(key, image.shape)
    half = IMPULSE_DENSITY * severity / 2
    return jnp.where(draw < half, 0.0, jnp.where(draw >= 1.0 - half, 1.0, image))


def multiplicative_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Speckle: multiply every sample by 1 + n, n uniform of mean 0 and standard deviation 0.35 * severity.

    Uniform as MATLAB's imnoise draws it, which KADID-10k uses.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: KADID-10k #14 has variances .001, .005, .01, .02, .05 (sigma .032 to .22); above that ours.
    """
    draw = draws.uniform(key, image.shape)
    return jnp.clip(image * (1.0 + SPECKLE_SIGMA * severity * 12**0.5 * (draw - 0.5)), 0.0, 1.0)


def sensor_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Photon and read noise of a camera at high gain, under its colour filter array, in linear light.

    Each pixel sees one colour (RGGB) with variance (0.05 * light + 0.01**2) * severity**2, about 20 photons at
    white for severity 1 (normal approximation of the Poisson law). Bilinear demosaicking spreads the noise to the
    other colours, in blotches; a share `severity` of what the demosaicking does to the picture itself (softness,
    colour fringes) is added.
    image: float32 (H, W, 3) sRGB in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: ours. Not among KADID-10k's types.
    """
    light = srgb_to_linear(image)
    seen = mosaic(light)
    noise = jnp.sqrt(SHOT_GAIN * seen + READ_SIGMA**2) * draws.normal(key, seen.shape)
    change = severity * (demosaic(seen + noise) - light)
    return jnp.clip(linear_to_srgb(jnp.clip(light + change, 0.0, 1.0)), 0.0, 1.0)
