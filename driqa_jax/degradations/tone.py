"""Tone: brighten, darken, mean shift, contrast."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.lab import lab_to_srgb, srgb_to_lab

BRIGHTEN_AMOUNT = 1.1  # KADID-10k level 5
DARKEN_AMOUNT = 0.8  # KADID-10k level 5
MEAN_SHIFT = 0.3  # of the full range; twice KADID-10k's strongest, ours
CONTRAST_BEND = 0.5  # KADID-10k's strongest level


def _parabola(x: jax.Array, amount: jax.Array) -> jax.Array:
    """The parabola through (0, 0), (.5, .5 + amount / 2), (1, 1), clipped to [0, 1]; any shape."""
    return jnp.clip(x + 2 * amount * x * (1.0 - x), 0.0, 1.0)


@degradation(15, "tone", ordered=False, kadid_levels=severities((0.1, 0.2, 0.4, 0.7, 1.1), BRIGHTEN_AMOUNT))
def brighten(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Lift mid-tones: two thirds of a parabola on sRGB plus one third of the same parabola on CIELAB lightness.

    The parabola passes through (0, 0), (.5, .5 + a/2), (1, 1), with a = 1.1 * severity; whites clip.
    Range and curve: KADID-10k #16, a of 0.1, 0.2, 0.4, 0.7, 1.1.
    """
    amount = BRIGHTEN_AMOUNT * jnp.asarray(severity, jnp.float32)
    lab = srgb_to_lab(image)
    light = 100.0 * _parabola(jnp.clip(lab[..., :1] / 100.0, 0.0, 1.0), amount)
    lighter = lab_to_srgb(jnp.concatenate([light, lab[..., 1:]], axis=-1))
    return jnp.where(severity > 0, (2.0 * _parabola(image, amount) + lighter) / 3.0, image)


@degradation(16, "tone", ordered=False, kadid_levels=severities((0.05, 0.1, 0.2, 0.4, 0.8), DARKEN_AMOUNT))
def darken(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Lower mid-tones: the parabola through (0, 0), (.5, .5 - a/2), (1, 1), with a = 0.8 * severity.

    Range and curve: KADID-10k #17, a of 0.05, 0.1, 0.2, 0.4, 0.8.
    """
    return _parabola(image, -DARKEN_AMOUNT * severity)


def _sign(key: jax.Array) -> jax.Array:
    """+1 or -1, float32, each with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


@degradation(  # the levels are amounts; KADID-10k's signs are + + 0 - -
    17, "tone", ordered=False, kadid_levels=severities((0.15, 0.08, 0, 0.08, 0.15), MEAN_SHIFT), chain_key=True
)
def mean_shift(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Add +-0.3 * severity to every channel and clip. The key draws the sign.

    Range: KADID-10k #18 adds 0.15, 0.08, 0, -0.08, -0.15; twice that is ours.
    """
    return jnp.clip(image + _sign(key) * MEAN_SHIFT * severity, 0.0, 1.0)


@degradation(  # the levels are amounts; KADID-10k's signs are + + + - -
    24, "tone", ordered=False, kadid_levels=severities((0.5, 0.35, 0.2, 0.2, 0.4), CONTRAST_BEND), chain_key=True
)
def contrast_change(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Steepen or flatten mid-tones by an odd cubic around mid-gray. The key draws which; severity sets how much.

    With u = x - .5: .5 + u + b / .168 * u * (.25 - u * u), b = +-0.5 * severity, clipped.
    Curve: KADID-10k #25, whose not-a-knot spline through (0, 0), (.3, .25 - a/4), (.5, .5), (.7, .75 + a/4),
    (1, 1) is this cubic with b = a + .2; its a of .3, .15, 0, -.4, -.6 are b of .5, .35, .2, -.2, -.4.
    """
    bend = _sign(key) * CONTRAST_BEND * severity / 0.168
    centered = image - 0.5
    return jnp.clip(image + bend * centered * (0.25 - centered * centered), 0.0, 1.0)
