"""Lost resolution: down- and upsampling by standard kernels, and pixelation."""

import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.degradations.entry import degradation, scale_severities
from driqa_jax.degradations.filters import apply_matrices

KERNELS = ("nearest", "box", "bilinear", "bicubic", "lanczos3")
SMOOTH = 2  # kernels from this index on enlarge without square pixels
RESAMPLE_FACTOR = 8.0  # ours
PIXEL_SIZE = 8.0  # px; ours


def cubic(distance: jax.Array) -> jax.Array:
    """Keys' cubic kernel with a = -0.5 (Catmull-Rom, Pillow's BICUBIC), any shape."""
    d = jnp.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return jnp.where(d < 1, near, jnp.where(d < 2, far, 0.0))


def interpolation_weights(kernel: jax.Array, to: jax.Array, at: jax.Array, scale: jax.Array) -> jax.Array:
    """Unnormalized weight of each source sample in each new sample, (n, m) float32.

    Smooth kernels widen with the scale when they shrink. A box weighs by shared area. Nearest takes the sample under
    the center. `kernel` is an int32 index into KERNELS, `to` (n, 1) are the centers of the new samples in units of the
    source spacing, where sample i covers [i, i + 1], `at` (1, m) the centers of the source samples, i + 0.5, and
    `scale` is the new spacing over the source spacing.
    """
    wide = jnp.maximum(scale, 1.0)
    d = jnp.abs(at - to)
    weights = [
        lambda: (jnp.floor(to) + 0.5 == at).astype(jnp.float32),
        lambda: jnp.clip((1.0 + scale) / 2 - d, 0.0, jnp.minimum(scale, 1.0)),
        lambda: jnp.maximum(1.0 - d / wide, 0.0),
        lambda: cubic(d / wide),
        lambda: jnp.where(d < 3.0 * wide, jnp.sinc(d / wide) * jnp.sinc(d / (3.0 * wide)), 0.0),
    ]
    return lax.switch(kernel, weights)


def down_up_matrix(length: int, factor: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """Matrix (length, length) that shrinks a line by a traced factor >= 1 and enlarges it back.

    `down` and `up` are int32 indices into KERNELS. The small line has round(length / factor) samples; the remaining
    rows of its fixed-size array have weight 0.
    """
    samples = jnp.maximum(jnp.round(length / factor), 1.0)
    ratio = length / samples
    center = jnp.arange(length, dtype=jnp.float32) + 0.5
    exists = center < samples
    shrink = interpolation_weights(down, center[:, None] * ratio, center[None, :], ratio)
    shrink = jnp.where(exists[:, None], shrink, 0.0)
    shrink = shrink / jnp.where(exists[:, None], shrink.sum(axis=1, keepdims=True), 1.0)
    enlarge = interpolation_weights(up, center[:, None] / ratio, center[None, :], 1.0 / ratio)
    enlarge = jnp.where(exists[None, :], enlarge, 0.0)
    enlarge = enlarge / enlarge.sum(axis=1, keepdims=True)
    return jnp.matmul(enlarge, shrink, precision=lax.Precision.HIGHEST)


def down_up(image: jax.Array, factor: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """Shrink an image (H, W, 3) by a traced factor >= 1 and enlarge it back, clipped to [0, 1].

    `down` and `up` are int32 indices into KERNELS.
    """
    height, width, _ = image.shape
    rows = down_up_matrix(height, factor, down, up)
    columns = rows if width == height else down_up_matrix(width, factor, down, up)
    return jnp.clip(apply_matrices(image, rows, columns), 0.0, 1.0)


@degradation(28, "resolution", chain_key=True)
def resample(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Shrink by 8**severity with one kernel and enlarge back with another. The key draws both kernels.

    Any of KERNELS shrinks, antialiased except nearest. Bilinear, bicubic or lanczos3 enlarges: nearest and box show
    square pixels, which is `pixelate`.
    Range: ours (super-resolution's x2, x4 and x8 lie at 1/3, 2/3 and 1); not a KADID-10k type.
    """
    down, up = jax.random.randint(key, (2,), jnp.asarray([0, SMOOTH]), len(KERNELS))
    return down_up(image, RESAMPLE_FACTOR ** jnp.asarray(severity, jnp.float32), down, up)


def mosaic_matrix(length: int, block: jax.Array) -> jax.Array:
    """Matrix (length, length) that replaces each sample by the mean of its block, of a traced width >= 1."""
    pixel = jnp.arange(length, dtype=jnp.float32)
    start = (jnp.floor((pixel + 0.5) / block) * block)[:, None]
    overlap = jnp.minimum(pixel[None, :] + 1.0, start + block) - jnp.maximum(pixel[None, :], start)
    overlap = jnp.maximum(overlap, 0.0)
    return overlap / overlap.sum(axis=1, keepdims=True)


_KADID_BLOCKS = [1 / (0.95 - a**0.6) for a in (0.01, 0.05, 0.1, 0.2, 0.5)]  # px


@degradation(20, "resolution", kadid_levels=scale_severities(_KADID_BLOCKS, 1.0, PIXEL_SIZE))
def pixelate(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Replace square blocks of 8**severity pixels (any fraction) by their means.

    Range: KADID-10k #21 scales by .95 - a**.6, a of .01 to .5: blocks of 1.1 to 3.5 px; above that ours. KADID-10k
    keeps one pixel of each block, which displaces half of the image even at the lowest level; the mean starts gently.
    """
    block = PIXEL_SIZE ** jnp.asarray(severity, jnp.float32)
    rows, columns = (mosaic_matrix(length, block) for length in image.shape[:2])
    return jnp.clip(apply_matrices(image, rows, columns), 0.0, 1.0)
