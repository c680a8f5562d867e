"""Lost resolution: down- and upsampling by the usual kernels, and hard pixels."""

import math

import jax
import jax.numpy as jnp
from jax import lax

KERNELS = ("nearest", "box", "bilinear", "bicubic", "lanczos3")
SMOOTH = 2  # the kernels from here on enlarge without square pixels
RESAMPLE_FACTOR = 8.0  # ours
PIXEL_SIZE = 8.0  # px; ours


def cubic(distance: jax.Array) -> jax.Array:
    """Keys' cubic kernel with a = -0.5 (Catmull-Rom, Pillow's BICUBIC), any shape."""
    d = jnp.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return jnp.where(d < 1, near, jnp.where(d < 2, far, 0.0))


def interpolation_weights(kernel: jax.Array, to: jax.Array, at: jax.Array, scale: jax.Array) -> jax.Array:
    """How much each source sample counts in each new one, before normalisation.

    kernel: int32, place in KERNELS. to: (n, 1), the new samples' centres in units of the source's spacing, where
    sample i covers [i, i + 1]. at: (1, m), the source samples' centres, i + 0.5. scale: the new spacing in the
    source's. Returns float32 (n, m). Smooth kernels widen with the scale when they shrink; a box is the area that
    two samples share; nearest takes the sample under the centre.
    """
    wide = jnp.maximum(scale, 1.0)
    d = jnp.abs(at - to)
    return lax.switch(
        kernel,
        [
            lambda: (jnp.floor(to) + 0.5 == at).astype(jnp.float32),
            lambda: jnp.clip((1.0 + scale) / 2 - d, 0.0, jnp.minimum(scale, 1.0)),
            lambda: jnp.maximum(1.0 - d / wide, 0.0),
            lambda: cubic(d / wide),
            lambda: jnp.where(d < 3.0 * wide, jnp.sinc(d / wide) * jnp.sinc(d / (3.0 * wide)), 0.0),
        ],
    )


def down_up_matrix(length: int, factor: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """Matrix (length, length) that shrinks a line by a traced factor >= 1 and enlarges it back.

    down, up: int32, places in KERNELS. The small line has round(length / factor) samples; the other rows of its
    fixed-size array carry weight 0.
    """
    samples = jnp.maximum(jnp.round(length / factor), 1.0)
    ratio = length / samples
    centre = jnp.arange(length, dtype=jnp.float32) + 0.5
    exists = centre < samples
    shrink = interpolation_weights(down, centre[:, None] * ratio, centre[None, :], ratio)
    shrink = jnp.where(exists[:, None], shrink, 0.0)
    shrink = shrink / jnp.where(exists[:, None], shrink.sum(axis=1, keepdims=True), 1.0)
    enlarge = interpolation_weights(up, centre[:, None] / ratio, centre[None, :], 1.0 / ratio)
    enlarge = jnp.where(exists[None, :], enlarge, 0.0)
    enlarge = enlarge / enlarge.sum(axis=1, keepdims=True)
    return jnp.matmul(enlarge, shrink, precision=lax.Precision.HIGHEST)


def _rows_and_columns(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Apply one matrix along the rows and one along the columns of (H, W, 3), clipped to [0, 1]."""
    exact = lax.Precision.HIGHEST
    out = jnp.einsum("ij,jwc->iwc", rows, image, precision=exact)
    return jnp.clip(jnp.einsum("vw,iwc->ivc", columns, out, precision=exact), 0.0, 1.0)


def down_up(image: jax.Array, factor: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """Shrink both sides by a traced factor >= 1 with one kernel and enlarge them back with another.

    image: float32 (H, W, 3) in [0, 1]. down, up: int32, places in KERNELS. Returns float32 (H, W, 3), clipped.
    """
    height, width, _ = image.shape
    rows = down_up_matrix(height, factor, down, up)
    columns = rows if width == height else down_up_matrix(width, factor, down, up)
    return _rows_and_columns(image, rows, columns)


def resample(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Shrink by 8**severity with one kernel and enlarge back with another; the key draws both.

    Shrinks by any of KERNELS, antialiased but for nearest; enlarges by bilinear, bicubic or lanczos3, since nearest
    and box show square pixels, which is `pixelate`.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]. Returns float32 (H, W, 3).
    Range: ours (super-resolution's x2, x4 and x8 lie at 1/3, 2/3 and 1). Not among KADID-10k's types.
    """
    down, up = jax.random.randint(key, (2,), jnp.asarray([0, SMOOTH]), len(KERNELS))
    return down_up(image, RESAMPLE_FACTOR ** jnp.asarray(severity, jnp.float32), down, up)


def pixelate_severity(block: float) -> float:
    """The severity in [0, 1] at which `pixelate` shows blocks of this many pixels, 1 to 8."""
    return math.log(block) / math.log(PIXEL_SIZE)


def mosaic_matrix(length: int, block: jax.Array) -> jax.Array:
    """Matrix (length, length) that gives each sample the mean of its block, of a traced width >= 1."""
    pixel = jnp.arange(length, dtype=jnp.float32)
    start = (jnp.floor((pixel + 0.5) / block) * block)[:, None]
    overlap = jnp.minimum(pixel[None, :] + 1.0, start + block) - jnp.maximum(pixel[None, :], start)
    overlap = jnp.maximum(overlap, 0.0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def pixelate(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Show square blocks of 8**severity pixels (any fraction), each with its mean.

    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1]; the key is not used.
    Returns float32 (H, W, 3).
    Range: KADID-10k #21 scales by .95 - a**.6, a of .01 to .5: blocks of 1.1 to 3.5 px; above that ours.
    KADID-10k takes one pixel of each block, which already displaces half of the picture at the smallest
    level; the mean begins softly.
    """
    del key
    block = PIXEL_SIZE ** jnp.asarray(severity, jnp.float32)
    return _rows_and_columns(image, mosaic_matrix(image.shape[0], block), mosaic_matrix(image.shape[1], block))
