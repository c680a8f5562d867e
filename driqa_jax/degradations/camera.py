"""What the scene and the exposure do to a photograph: haze, and too little light."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations import draws
from driqa_jax.degradations.bayer import demosaic, mosaic
from driqa_jax.degradations.lab import linear_to_srgb, srgb_to_linear

HAZE_DENSITY = 2.0  # optical depth of the farthest point at severity 1; ours
NEAREST_DEPTH = 0.3  # of the farthest; ours
AIRLIGHT_LOW, AIRLIGHT_HIGH = 0.6, 0.9  # linear light; ours
DEPTH_CELLS = 3  # knots of the depth map along a side
LOST_STOPS = 4.0  # of light at severity 1; ours
GAINED_STOPS = 2.0  # of them brought back by gain; ours
FULL_WELL = 300.0  # electrons at white in full light; ours
READ_ELECTRONS = 3.0  # ours


def _knots_to_pixels(length: int) -> jax.Array:
    """Linear interpolation of DEPTH_CELLS knots to pixels: (length, DEPTH_CELLS), rows that sum to 1."""
    place = jnp.linspace(0.0, DEPTH_CELLS - 1.0, length)
    # Smoothstep between knots: no creases for an eye to see.
    whole = jnp.clip(jnp.floor(place), 0.0, DEPTH_CELLS - 2.0)
    part = place - whole
    place = whole + part * part * (3.0 - 2.0 * part)
    return jnp.maximum(1.0 - jnp.abs(place[:, None] - jnp.arange(DEPTH_CELLS, dtype=jnp.float32)[None, :]), 0.0)


def haze_scene(key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """What `haze` draws: depth (H, W) in [0.3, 1], smooth; airlight (3,), linear light, near grey. float32."""
    k_depth, k_light, k_tint = jax.random.split(key, 3)
    knots = jax.random.uniform(k_depth, (DEPTH_CELLS, DEPTH_CELLS))
    relief = _knots_to_pixels(size[0]) @ knots @ _knots_to_pixels(size[1]).T
    depth = NEAREST_DEPTH + (1.0 - NEAREST_DEPTH) * relief
    grey = jax.random.uniform(k_light, minval=AIRLIGHT_LOW, maxval=AIRLIGHT_HIGH)
    return depth, grey * (1.0 + 0.08 * (jax.random.uniform(k_tint, (3,)) - 0.5))


def haze(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Fog between the camera and the scene: J * t + A * (1 - t) in linear light, t = exp(-depth * 2 * severity**1.5).

    The key draws a smooth depth in [0.3, 1] and the airlight A in [.58, .94] (see `haze_scene`).
    image: float32 (H, W, 3) sRGB in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Source: Koschmieder's law, as He, Sun and Tang (2009) write it. Range: ours. Not among KADID-10k's types.
    """
    depth, airlight = haze_scene(key, (image.shape[0], image.shape[1]))
    veil = -jnp.expm1(-HAZE_DENSITY * severity**1.5 * depth)[..., None]
    light = srgb_to_linear(image)
    return jnp.clip(linear_to_srgb(light + veil * (airlight[None, None, :] - light)), 0.0, 1.0)


def low_light(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Too little light: 4 * severity stops are lost and half of them brought back by gain, with the noise.

    White gives 300 * 2**(-4 * severity) electrons; photon noise (normal approximation) and 3 electrons of read
    noise on the RGGB sensor, demosaicked bilinearly, then the gain. The noise is weighed by the severity, since the
    photograph in full light is taken as it is.
    image: float32 (H, W, 3) sRGB in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: ours. Not among KADID-10k's types.
    """
    electrons = FULL_WELL * jnp.exp2(-LOST_STOPS * severity)
    light = srgb_to_linear(image)
    sigma = severity * jnp.sqrt(electrons * mosaic(light) + READ_ELECTRONS**2) / electrons
    noise = demosaic(sigma * draws.normal(key, image.shape[:2]))
    gain = jnp.exp2((GAINED_STOPS - LOST_STOPS) * severity)
    return jnp.clip(linear_to_srgb(jnp.clip(gain * (light + noise), 0.0, 1.0)), 0.0, 1.0)
