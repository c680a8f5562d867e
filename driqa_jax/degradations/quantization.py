"""Too few levels per channel, too few colors."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.entry import degradation, on_scale, scale_severities

MOST_STEPS = 63.0  # 64 levels, where banding first shows in a sky; ours
FEWEST_STEPS = 3.0  # four levels per channel; ours
MOST_COLORS, FEWEST_COLORS = 96, 8  # the fewest are KADID-10k's, the most are ours
ROUNDS = 6  # of k-means; more change little
# Ordered dithering (Bayer, 4x4), zero mean, in [-.5, .5].
BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) + 0.5) / 16 - 0.5


@degradation(21, "quantization", kadid_levels=scale_severities((19, 15, 12, 9, 6), MOST_STEPS, FEWEST_STEPS))
def quantization(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Round every channel to n + 1 even levels, n = round(63 * (3/63)**severity): 64 levels down to 4.

    Range: KADID-10k #22 has 20, 16, 13, 10, 7 levels, which it places by Otsu's method.
    """
    steps = jnp.round(on_scale(severity, MOST_STEPS, FEWEST_STEPS))
    return jnp.where(severity > 0, jnp.round(image * steps) / steps, image)


def _nearest(palette: jax.Array, used: jax.Array, pixels: jax.Array) -> jax.Array:
    """Index (N,) int32 of the nearest color, among the `used` (K,) ones of a palette (3, K), for pixels (3, N)."""
    # (|p - c|^2 - |p|^2) / 2 has the same minimum as |p - c|^2.
    square = jnp.where(used, 0.5 * (palette * palette).sum(axis=0), jnp.inf)

    def look(color: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance = square[color] - sum(palette[c, color] * pixels[c] for c in range(3))
        return jnp.minimum(distance, best[0]), jnp.where(distance < best[0], color, best[1])

    # Computed from the pixels, so that under shard_map the carry varies over devices from the start.
    nothing = 0.0 * pixels[0]
    start = nothing + jnp.inf, nothing.astype(jnp.int32)
    # A loop over colors costs a tenth of a table of all distances and its argmin.
    return lax.fori_loop(0, palette.shape[1], look, start, unroll=8)[1]


@degradation(5, "quantization", kadid_levels=scale_severities((64, 48, 32, 16, 8), MOST_COLORS, FEWEST_COLORS))
def color_quantization(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Reduce the image to a fitted, dithered palette of round(96 * (8/96)**severity) colors.

    k-means fits the palette to about 1000 pixels of a grid. An ordered 4x4 pattern as strong as the palette's error
    dithers it. Range: KADID-10k #06 has 64, 48, 32, 16, 8 colors (minimum variance, error diffusion).
    """
    height, width, _ = image.shape
    severity = jnp.asarray(severity, jnp.float32)
    used = jnp.arange(MOST_COLORS) < jnp.round(on_scale(severity, MOST_COLORS, FEWEST_COLORS))
    sample = image[:: max(1, height // 32), :: max(1, width // 32)].reshape(-1, 3).T
    # Golden-section steps through the grid: the first n of them, for any n, spread over the image.
    first = np.floor((np.arange(MOST_COLORS) * 0.6180339887 + 0.5) % 1 * sample.shape[1]).astype(np.int32)

    def refit(_: int, palette: jax.Array) -> jax.Array:
        belongs = _nearest(palette, used, sample)[None, :] == jnp.arange(MOST_COLORS)[:, None]
        total = jnp.einsum("kn,cn->ck", belongs.astype(jnp.float32), sample, precision=lax.Precision.HIGHEST)
        count = belongs.sum(axis=1)[None, :]
        return jnp.where(count > 0, total / jnp.maximum(count, 1), palette)

    palette = lax.fori_loop(0, ROUNDS, refit, sample[:, first])
    missed = palette[:, _nearest(palette, used, sample)] - sample
    pattern = jnp.asarray(np.tile(BAYER, (-(-height // 4), -(-width // 4)))[:height, :width])
    # A uniform distribution of width w has standard deviation w / sqrt(12).
    strength = jnp.sqrt(12.0 * (missed * missed).mean(axis=1))
    pixels = image.reshape(-1, 3).T + strength[:, None] * pattern.reshape(1, -1)
    out = palette.T[_nearest(palette, used, pixels)].reshape(image.shape)
    return jnp.where(severity > 0, out, image)
