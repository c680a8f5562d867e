"""Too few grey levels."""

import math

import jax
import jax.numpy as jnp

MOST_STEPS = 63.0  # 64 levels, the first that can be seen in a sky; ours
FEWEST_STEPS = 3.0  # four levels a channel; ours


def quantization_severity(levels: float) -> float:
    """The severity in [0, 1] at which `quantization` leaves this many levels, 4 to 64."""
    return math.log((levels - 1) / MOST_STEPS) / math.log(FEWEST_STEPS / MOST_STEPS)


def quantization(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Round every channel to n + 1 even levels, n = round(63 * (3/63)**severity): 64 levels down to 4.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1], 0 leaves the image as it is; the key is
    not used.
    Returns float32 (H, W, 3). Range: KADID-10k #22 has 20, 16, 13, 10, 7 levels (placed by Otsu's method
    there).
    """
    del key
    steps = jnp.round(MOST_STEPS * (FEWEST_STEPS / MOST_STEPS) ** jnp.asarray(severity, jnp.float32))
    return jnp.where(severity > 0, jnp.round(image * steps) / steps, image)
