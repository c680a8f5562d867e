"""Tone and colour: brighten, darken, contrast, saturation, and sRGB's transfer curves."""

import jax
import jax.numpy as jnp

BRIGHTEN_AMOUNT = 1.1  # KADID-10k level 5
DARKEN_AMOUNT = 0.8  # KADID-10k level 5
CONTRAST_STOPS = 1.5  # factor 2**(+-1.5) about mid-grey; ours
SATURATION_LOSS = 1.4  # KADID-10k level 5: factor -0.4


def srgb_to_linear(image: jax.Array) -> jax.Array:
    """sRGB values in [0, 1] to linear light in [0, 1], any shape (IEC 61966-2-1)."""
    return jnp.where(image <= 0.04045, image / 12.92, ((jnp.maximum(image, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: jax.Array) -> jax.Array:
    """Linear light in [0, 1] to sRGB values in [0, 1], any shape (IEC 61966-2-1)."""
    return jnp.where(
        light <= 0.0031308, light * 12.92, 1.055 * jnp.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    )


def brighten(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Lift mid-tones: parabola through (0, 0), (.5, .5 + a/2), (1, 1), a = 1.1 * severity; whites clip.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range and curve: KADID-10k #16, a of .1, .2, .4, .7, 1.1 (which blends in one third of the same curve on
    CIELAB lightness; left out here).
    """
    del key
    return jnp.clip(image + 2 * BRIGHTEN_AMOUNT * severity * image * (1.0 - image), 0.0, 1.0)


def darken(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Sink mid-tones: parabola through (0, 0), (.5, .5 - a/2), (1, 1), a = 0.8 * severity; blacks clip.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range and curve: KADID-10k #17, a of .05, .1, .2, .4, .8.
    """
    del key
    return jnp.clip(image - 2 * DARKEN_AMOUNT * severity * image * (1.0 - image), 0.0, 1.0)


def contrast_change(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Stretch or flatten about mid-grey: 0.5 + (x - 0.5) * 2**(+-1.5 * severity); the key draws the sign.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1], the amount. Returns float32 (H, W, 3).
    Range: ours; KADID-10k #25 uses a spline with amounts 0, .15, -.4, .3, -.6.
    """
    sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
    factor = jnp.exp2(sign * CONTRAST_STOPS * severity)
    return jnp.clip(0.5 + (image - 0.5) * factor, 0.0, 1.0)


def color_saturation_1(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Scale HSV saturation by 1 - 1.4 * severity: pale, then grey (severity .71), then hues turned over.

    With hue and value fixed, a channel is max - S * k, so scaling S scales the distance to the maximum.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range: KADID-10k #07, factors .6, .8, .9, 1 and 1.4 taken from 1.
    """
    del key
    value = image.max(axis=-1, keepdims=True)
    return jnp.clip(value - (1.0 - SATURATION_LOSS * severity) * (value - image), 0.0, 1.0)
