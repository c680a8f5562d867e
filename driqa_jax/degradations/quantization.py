"""Too few grey levels, too few colours."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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


MOST_COLORS, FEWEST_COLORS = 96, 8  # KADID-10k's fewest; the most are ours
ROUNDS = 6  # of k-means; more changes little
# Ordered dithering (Bayer, 4x4), zero mean, in [-.5, .5].
BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) + 0.5) / 16 - 0.5


def color_quantization_severity(colors: float) -> float:
    """The severity in [0, 1] at which `color_quantization` leaves this many colours, 8 to 96."""
    return math.log(colors / MOST_COLORS) / math.log(FEWEST_COLORS / MOST_COLORS)


def _nearest(palette: jax.Array, used: jax.Array, pixels: jax.Array) -> jax.Array:
    """Which of the used colours of a palette (3, K) is nearest to each of the pixels (3, N): int32 (N,)."""
    # |p - c|^2 less |p|^2, halved.
    square = jnp.where(used, 0.5 * (palette * palette).sum(axis=0), jnp.inf)

    def look(color: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance = square[color] - sum(palette[c, color] * pixels[c] for c in range(3))
        return jnp.minimum(distance, best[0]), jnp.where(distance < best[0], color, best[1])

    # Made of the pixels, so that under shard_map the loop begins as it goes on: different on each device.
    nothing = 0.0 * pixels[0]
    start = nothing + jnp.inf, nothing.astype(jnp.int32)
    # A loop over colours, a tenth of the price of a table of all distances and its argmin.
    return lax.fori_loop(0, palette.shape[1], look, start, unroll=8)[1]


def color_quantization(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Show the picture in few colours, dithered: round(96 * (8/96)**severity) of them, fitted to the picture.

    The palette is fitted by k-means to about 1000 pixels from a grid; an ordered 4x4 pattern as strong as the
    palette's error spreads that error.
    image: float32 (H, W, 3) in [0, 1]; severity: scalar in [0, 1], 0 leaves the image as it is; the key is
    not used.
    Returns float32 (H, W, 3). Range: KADID-10k #06 has 64, 48, 32, 16, 8 colours (minimum variance, error
    diffusion).
    """
    del key
    height, width, _ = image.shape
    severity = jnp.asarray(severity, jnp.float32)
    used = jnp.arange(MOST_COLORS) < jnp.round(MOST_COLORS * (FEWEST_COLORS / MOST_COLORS) ** severity)
    sample = image[:: max(1, height // 32), :: max(1, width // 32)].reshape(-1, 3).T
    # Golden-section steps through the grid: any first n of them lie spread over the picture.
    first = np.floor((np.arange(MOST_COLORS) * 0.6180339887 + 0.5) % 1 * sample.shape[1]).astype(np.int32)

    def refit(_: int, palette: jax.Array) -> jax.Array:
        belongs = _nearest(palette, used, sample)[None, :] == jnp.arange(MOST_COLORS)[:, None]
        total = jnp.einsum("kn,cn->ck", belongs.astype(jnp.float32), sample, precision=lax.Precision.HIGHEST)
        count = belongs.sum(axis=1)[None, :]
        return jnp.where(count > 0, total / jnp.maximum(count, 1), palette)

    palette = lax.fori_loop(0, ROUNDS, refit, sample[:, first])
    missed = palette[:, _nearest(palette, used, sample)] - sample
    pattern = jnp.asarray(np.tile(BAYER, (-(-height // 4), -(-width // 4)))[:height, :width])
    # A uniform spread of width w has deviation w / sqrt(12).
    strength = jnp.sqrt(12.0 * (missed * missed).mean(axis=1))
    pixels = image.reshape(-1, 3).T + strength[:, None] * pattern.reshape(1, -1)
    out = palette.T[_nearest(palette, used, pixels)].reshape(image.shape)
    return jnp.where(severity > 0, out, image)
