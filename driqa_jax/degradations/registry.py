"""The bank of degradations, and `apply`, which runs one of them on one image."""

import jax
import jax.numpy as jnp
import numpy as np

# Importing a family declares its degradations; `declared` orders them by index, so the order here is irrelevant.
from driqa_jax.degradations import (  # noqa: F401
    camera,
    color,
    compression,
    damage,
    jpeg2000,
    noise,
    optics,
    resample,
    sharpness,
    spatial,
)
from driqa_jax.degradations.entry import Degradation, declared, unknown_name

SMALLEST_SIDE = 32  # px; the widest kernels span 31

DEGRADATIONS: tuple[Degradation, ...] = declared()
NAMES: tuple[str, ...] = tuple(entry.name for entry in DEGRADATIONS)


def find(name: str) -> Degradation:
    """The degradation called `name`. Raises ValueError, with the closest name, if there is none."""
    if name in NAMES:
        return DEGRADATIONS[NAMES.index(name)]
    raise unknown_name("degradation", name, NAMES)


def apply(name: str, key: jax.Array, image: jax.Array, severity: jax.Array | float) -> jax.Array:
    """Degrade one image by the type `name` of `NAMES`: (H, W, 3) float32 in [0, 1].

    Args:
      key: a random key; the type's docstring says what it draws.
      image: (H, W, 3) float32 sRGB in [0, 1], each side at least 32.
      severity: scalar in [0, 1]; 0 returns the image itself.

    Raises TypeError if the image is not float32, and ValueError for an unknown name, a wrong shape, an image too small,
    or severity or pixels outside [0, 1]. Traced values are not checked.
    """
    entry = find(name)
    image = image if isinstance(image, jax.Array) else jnp.asarray(image)
    if image.dtype != jnp.float32:
        raise TypeError(f"{name}: image must be float32 in [0, 1], got {image.dtype}; divide uint8 by 255")
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"{name}: image must be (height, width, 3), got {image.shape}; use vmap for a batch")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        least, size = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}", f"{image.shape[0]}x{image.shape[1]}"
        raise ValueError(f"{name}: image must be at least {least}, got {size}")
    if jnp.ndim(severity) != 0:
        raise ValueError(f"{name}: severity must be one scalar in [0, 1], got shape {jnp.shape(severity)}")
    if not isinstance(severity, jax.core.Tracer) and not 0.0 <= float(severity) <= 1.0:
        raise ValueError(f"{name}: severity must be in [0, 1], got {float(severity)}")
    if not isinstance(image, jax.core.Tracer):
        # numpy, since a concrete image that a traced function closes over would give traced minima in JAX.
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"{name}: image values must be in [0, 1], got [{low:g}, {high:g}]")
    return entry.fn(key, image, jnp.asarray(severity, jnp.float32))
