"""Chroma at less resolution than luma."""

import jax
import jax.numpy as jnp
from jax import lax

MOST_SUBSAMPLING = 16.0  # ours; video has 2 and 4


def subsample_matrix(length: int, factor: jax.Array) -> jax.Array:
    """Matrix (length, length): means of boxes of a traced width >= 1, read back by linear interpolation."""
    index = jnp.arange(length, dtype=jnp.float32)
    samples = jnp.ceil(length / factor - 1e-4)
    start = (index * factor)[:, None]
    overlap = jnp.minimum(index[None, :] + 1.0, start + factor) - jnp.maximum(index[None, :], start)
    overlap = jnp.maximum(overlap, 0.0)
    box = overlap / jnp.maximum(overlap.sum(axis=1, keepdims=True), 1e-6)
    place = jnp.clip((index + 0.5) / factor - 0.5, 0.0, samples - 1.0)
    tent = jnp.maximum(1.0 - jnp.abs(place[:, None] - index[None, :]), 0.0)
    return jnp.matmul(tent, box, precision=lax.Precision.HIGHEST)


def chroma_subsampling(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Keep Cb and Cr at 1 / 16**severity of the resolution: box means, linear interpolation; luma stays.

    4:2:0 of JPEG and video lies at severity 1/4, a quarter of the resolution at 1/2.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range: ours. Not among KADID-10k's types.
    """
    del key
    factor = MOST_SUBSAMPLING ** jnp.asarray(severity, jnp.float32)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = jnp.stack([blue - y, red - y])
    rows, columns = (subsample_matrix(length, factor) for length in image.shape[:2])
    chroma = jnp.einsum("ij,cjw->ciw", rows, chroma, precision=lax.Precision.HIGHEST)
    blue, red = y[None] + jnp.einsum("chj,wj->chw", chroma, columns, precision=lax.Precision.HIGHEST)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0.0, 1.0)
