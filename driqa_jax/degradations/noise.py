"""Pixel noise: white, in color components, impulse, speckle; and the random fields that it is made of."""

import math

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, severities

WHITE_SIGMA = 0.15  # of full scale (38 of 255 gray levels); ours
COMPONENT_SIGMA = 0.08  # of Y, Cb and Cr in units of 255; ours
IMPULSE_DENSITY = 0.1  # share of samples; ours
SPECKLE_SIGMA = 0.35  # relative; ours

# RGB from Y (16..235 of 255), Cb and Cr (16..240), as MATLAB's ycbcr2rgb, which KADID-10k uses. ITU-R BT.601.
Y_TO_RGB = (255 / 219, 255 / 219, 255 / 219)
CB_TO_RGB = (0.0, -0.344136286 * 255 / 224, 1.772 * 255 / 224)
CR_TO_RGB = (1.402 * 255 / 224, -0.714136286 * 255 / 224, 0.0)


# Both fields are drawn flat and reshaped. The numbers are those of a draw in the final shape, but JAX counts the
# elements of a multi-axis shape in 64 bits, which XLA:CPU does not vectorize: 0.78 ms against 0.29 ms for 128x128x3.
def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent standard normal draws, float32 of this shape."""
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent uniform draws in [0, 1), float32 of this shape."""
    return jax.random.uniform(key, (math.prod(shape),)).reshape(shape)


@degradation(10, "noise", kadid_levels=severities((0.001, 0.002, 0.003, 0.005, 0.01), WHITE_SIGMA**2, 2))
def white_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Independent Gaussian noise of sigma 0.15 * severity in every channel of every pixel.

    Range: KADID-10k #11 has variances 0.001, 0.002, 0.003, 0.005, 0.01 (sigma 0.032 to 0.1); above that ours.
    """
    return jnp.clip(image + WHITE_SIGMA * severity * normal(key, image.shape), 0.0, 1.0)


@degradation(11, "noise", kadid_levels=severities((0.0001, 0.0005, 0.001, 0.002, 0.003), COMPONENT_SIGMA**2, 2))
def white_noise_color_component(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Independent Gaussian noise of sigma 0.08 * severity in Y, Cb and Cr of every pixel.

    The transform is linear, so only the noise passes through its inverse: standard deviations of 1.98, 1.47 and 2.33
    times that in red, green and blue, correlated with one another.
    Range: KADID-10k #12 has variances 0.0001, 0.0005, 0.001, 0.002, 0.003 (sigma 0.01 to 0.055); above that ours.
    """
    draw = COMPONENT_SIGMA * severity * normal(key, image.shape)
    for component, rgb in enumerate((Y_TO_RGB, CB_TO_RGB, CR_TO_RGB)):
        image = image + draw[..., component, None] * jnp.asarray(rgb, image.dtype)[None, None, :]
    return jnp.clip(image, 0.0, 1.0)


@degradation(12, "noise", kadid_levels=severities((0.001, 0.005, 0.01, 0.02, 0.03), IMPULSE_DENSITY))
def impulse_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Salt and pepper: a share 0.1 * severity of the samples becomes 0 or 1, half each.

    A sample is one channel of a pixel. For a fixed key, a sample hit at one severity is hit at every higher one.
    Range: KADID-10k #13 has densities 0.001, 0.005, 0.01, 0.02, 0.03; above that ours.
    """
    draw = uniform(key, image.shape)
    half = IMPULSE_DENSITY * severity / 2
    return jnp.where(draw < half, 0.0, jnp.where(draw >= 1.0 - half, 1.0, image))


@degradation(13, "noise", kadid_levels=severities((0.001, 0.005, 0.01, 0.02, 0.05), SPECKLE_SIGMA**2, 2))
def multiplicative_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Speckle: multiply every sample by 1 + n, with n uniform of mean 0 and standard deviation 0.35 * severity.

    Uniform, as in MATLAB's imnoise, which KADID-10k uses. Range: KADID-10k #14 has variances 0.001, 0.005, 0.01, 0.02,
    0.05 (sigma 0.032 to 0.22); above that ours.
    """
    draw = uniform(key, image.shape)
    return jnp.clip(image * (1.0 + SPECKLE_SIGMA * severity * 12**0.5 * (draw - 0.5)), 0.0, 1.0)
