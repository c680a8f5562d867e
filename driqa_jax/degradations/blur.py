"""Blurs with symmetric borders: Gaussian, out-of-focus disc, straight motion."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.filters import convolve, gaussian_kernel, offsets

GAUSSIAN_SIGMA = 5.0  # px, KADID-10k level 5
LENS_RADIUS = 8.0  # px, KADID-10k level 5
MOTION_LENGTH = 20.0  # px; ours. KADID-10k level 5 is 10, and real cameras blur further.


@degradation(0, "blur", kadid_levels=severities((0.1, 0.5, 1, 2, 5), GAUSSIAN_SIGMA))
def gaussian_blur(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Gaussian blur with sigma = 5 * severity pixels, truncated at 15 px.

    Range: KADID-10k #01 has sigma 0.1, 0.5, 1, 2, 5.
    """
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
