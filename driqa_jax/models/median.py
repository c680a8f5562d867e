"""The median of 3x3 pixels: what removes impulses, and what a few convolutions learn only slowly."""

import jax
import jax.numpy as jnp

# Exchanges after which the fifth of nine is the median (Smith, XCELL 23, 1996; Paeth, Graphics Gems, 1990).
_EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


def median3(images: jax.Array) -> jax.Array:
    """Median over each pixel's 3x3 neighbours, by channel; beyond the border the border's pixels are repeated.

    Args:
      images: (M, H, W, C) float.

    Returns:
      (M, H, W, C), equal to `scipy.ndimage.median_filter` with mode "nearest". The gradient goes to the pixel that is
      the median.
    """
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    taps = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    for low, high in _EXCHANGES:
        taps[low], taps[high] = jnp.minimum(taps[low], taps[high]), jnp.maximum(taps[low], taps[high])
    return taps[4]
