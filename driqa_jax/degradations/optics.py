"""Blur as a camera makes it, in linear light: a missed focus that depends on depth, and a shaken hand."""

import math

import jax
import jax.numpy as jnp

from driqa_jax.degradations.color import linear_to_srgb, srgb_to_linear
from driqa_jax.degradations.entry import degradation
from driqa_jax.degradations.filters import convolve, offsets

FOCUS_SHARE, FOCUS_LEAST = 0.025, 4.0  # radius at severity 1: of the shorter side, and at least px; ours
FOCUS_LEVELS = 3  # blurred copies between which the radius is interpolated
SHAKE_SHARE, SHAKE_LEAST, SHAKE_MOST = 0.04, 8.0, 21.0  # length at severity 1: of the shorter side, and px; ours
SHAKE_RADIUS = 15  # px: a 31x31 kernel
SHAKE_POINTS = 64  # more than two per pixel of the longest path


def focus_scene(key: jax.Array, size: tuple[int, int]) -> jax.Array:
    """What `out_of_focus` draws: the share of the full radius at each pixel, (H, W) float32 in [0, 1].

    An ellipse near the center, with a soft edge, stands for the subject. Either it is blurred or all else is.
    """
    k_center, k_axes, k_which = jax.random.split(key, 3)
    center = jax.random.uniform(k_center, (2,), minval=0.35, maxval=0.65)
    axes = jax.random.uniform(k_axes, (2,), minval=0.25, maxval=0.4)
    y, x = ((jnp.arange(n) + 0.5) / n for n in size)
    distance = jnp.hypot((y[:, None] - center[0]) / axes[0], (x[None, :] - center[1]) / axes[1])
    subject = jnp.clip((1.3 - distance) / 0.6, 0.0, 1.0)
    subject = subject * subject * (3.0 - 2.0 * subject)
    return jnp.where(jax.random.bernoulli(k_which), subject, 1.0 - subject)


@degradation(36, "blur", chain_key=True)
def out_of_focus(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Missed focus: the subject or its background is blurred by a disc, in linear light.

    The key draws which, and where the subject is (`focus_scene`). The radius at severity 1 is 2.5 % of the shorter
    side, at least 4 px. It is interpolated between three blurred copies. Range: ours; not a KADID-10k type.
    """
    most = max(FOCUS_SHARE * min(image.shape[:2]), FOCUS_LEAST)
    y, x = offsets(math.ceil(most + 0.5))
    light = srgb_to_linear(image)
    place = FOCUS_LEVELS * focus_scene(key, (image.shape[0], image.shape[1]))[..., None]
    mixed = jnp.maximum(1.0 - place, 0.0) * light
    for level in range(1, FOCUS_LEVELS + 1):
        # A radius of 0.5 px is the pixel itself.
        radius = 0.5 + (most - 0.5) * severity * level / FOCUS_LEVELS
        disc = jnp.clip(radius + 0.5 - jnp.sqrt(y * y + x * x), 0.0, 1.0)
        mixed += jnp.maximum(1.0 - jnp.abs(place - level), 0.0) * convolve(light, disc)
    return jnp.where(severity > 0, linear_to_srgb(jnp.clip(mixed, 0.0, 1.0)), image)


def shake_path(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What `camera_shake` draws: points (64, 2) of a curved path (row, column), and the time spent at each (64,).

    The chord has length about 1, the center of mass is at 0 and the times sum to 1; float32.
    """
    angle, bend, phase, speed = jax.random.uniform(key, (4,))
    t = jnp.linspace(-1.0, 1.0, SHAKE_POINTS)
    bend = jnp.where(bend < 0.5, -1.0, 1.0) * (0.4 + 0.4 * jnp.abs(2.0 * bend - 1.0))
    across = bend * t * t + 0.15 * jnp.sin(jnp.pi * (t + 2.0 * phase))
    turn = 2.0 * jnp.pi * angle
    points = jnp.stack([t * jnp.sin(turn) + across * jnp.cos(turn), t * jnp.cos(turn) - across * jnp.sin(turn)], -1)
    time = 1.0 + 0.7 * jnp.cos(jnp.pi * (t + 2.0 * speed))
    time = time / time.sum()
    return 0.5 * (points - (time[:, None] * points).sum(axis=0)[None, :]), time


@degradation(37, "blur", chain_key=True)
def camera_shake(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Camera shake: blur along a curved path (`shake_path`, drawn by the key), in linear light.

    The chord at severity 1 is 4 % of the shorter side, at least 8 and at most 21 px. Range: ours; not of KADID-10k.
    """
    length = min(max(SHAKE_SHARE * min(image.shape[:2]), SHAKE_LEAST), SHAKE_MOST)
    points, time = shake_path(key)
    y, x = offsets(SHAKE_RADIUS)
    y = y[..., None] - length * severity * points[None, None, :, 0]
    x = x[..., None] - length * severity * points[None, None, :, 1]
    # Bilinear splatting keeps the center of mass, so the image is not displaced.
    kernel = (time[None, None, :] * jnp.maximum(1.0 - jnp.abs(y), 0.0) * jnp.maximum(1.0 - jnp.abs(x), 0.0)).sum(
        axis=-1
    )
    blurred = convolve(srgb_to_linear(image), kernel)
    return jnp.where(severity > 0, linear_to_srgb(jnp.clip(blurred, 0.0, 1.0)), image)
