"""JPEG once and twice, chroma subsampling; too few levels per channel, too few colors.

Baseline JPEG follows libjpeg: integer planes, standard tables, 4:2:0, triangle chroma upsampling. Entropy coding is
lossless and left out. The DCT runs in float32 where libjpeg uses scaled integers, so a coefficient on a rounding
boundary may differ by one quantizer step.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.entry import degradation, on_scale, scale_severities

# ITU-T T.81, tables K.1 and K.2, in natural order.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA_TABLE = np.full((8, 8), 99, np.float32)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

BEST_SCALE, WORST_SCALE = 10.0, 1250.0  # percent of the standard tables: quality 95 and KADID-10k's level 5, 4
MOST_SUBSAMPLING = 16.0  # ours; video has 2 and 4
MOST_STEPS = 63.0  # 64 levels, where banding first shows in a sky; ours
FEWEST_STEPS = 3.0  # four levels per channel; ours
MOST_COLORS, FEWEST_COLORS = 96, 8  # the fewest are KADID-10k's, the most are ours
ROUNDS = 6  # of k-means; more change little
# Ordered dithering (Bayer, 4x4), zero mean, in [-.5, .5].
BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) + 0.5) / 16 - 0.5

# Orthonormal 2-D DCT-II of an 8x8 block as one (64, 64) matrix, wide enough to keep matmul units busy.
_K, _N = np.arange(8)[:, None], np.arange(8)[None, :]
_LINE = np.cos(np.pi * (2 * _N + 1) * _K / 16) * np.where(_K == 0, np.sqrt(1 / 8), np.sqrt(2 / 8))
DCT = np.kron(_LINE, _LINE).astype(np.float32)


def jpeg_quality(severity: jax.Array | float) -> jax.Array:
    """The JPEG quality of a severity in (0, 1]: the scale of the tables grows as 10 * 125**severity percent.

    95 just above 0, then 87, 65, 28, 10 and 4 at .2, .4, .6, .8 and 1.
    """
    scale = on_scale(severity, BEST_SCALE, WORST_SCALE)
    return jnp.where(scale < 100.0, (200.0 - scale) / 2.0, 5000.0 / scale)


def jpeg_severity(quality: float) -> float:
    """The severity in [0, 1] whose `jpeg_quality` is this quality, 4 to 95."""
    scale = 5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality
    return scale_severities([scale], BEST_SCALE, WORST_SCALE)[0]


def scaled_table(table: np.ndarray, quality: jax.Array | float) -> jax.Array:
    """A quantization table (8, 8) at a quality in [1, 100], as jpeg_set_quality makes it: integers, 1 to 255."""
    quality = jnp.asarray(quality, jnp.float32)
    # + 1e-3, so that rounding cannot turn 5000 / 4 into 1249.
    scale = jnp.floor(jnp.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality) + 1e-3)
    return jnp.clip(jnp.floor((table * scale + 50.5) / 100.0), 1.0, 255.0)


def _code_plane(plane: jax.Array, table: jax.Array) -> jax.Array:
    """Code one plane (8a, 8b) of integers in 0..255: DCT, quantization, and back to integers."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(rows * columns, 64) - 128.0
    exact = lax.Precision.HIGHEST
    table = table.reshape(1, 64)
    steps = jnp.matmul(blocks, DCT.T, precision=exact) / table
    # Halves round away from zero, as in libjpeg. DC coefficients are often halves, hence the margin for float32.
    coefficients = jnp.sign(steps) * jnp.floor(jnp.abs(steps) + 0.5 + 1e-4) * table
    blocks = jnp.clip(jnp.round(jnp.matmul(coefficients, DCT, precision=exact)) + 128.0, 0.0, 255.0)
    return blocks.reshape(rows, columns, 8, 8).transpose(0, 2, 1, 3).reshape(plane.shape)


def _pad_to(plane: jax.Array, multiple: tuple[int, int]) -> jax.Array:
    """Repeat the last row and column up to a multiple of (rows, columns)."""
    return jnp.pad(plane, [(0, -n % m) for n, m in zip(plane.shape, multiple, strict=True)], mode="edge")


def _halve(plane: jax.Array) -> jax.Array:
    """libjpeg's h2v2_downsample: box mean, bias 1, 2, 1, 2... along the row. (2a, 2b) -> (a, b)."""
    rows, columns = plane.shape[0] // 2, plane.shape[1] // 2
    sums = plane.reshape(rows, 2, columns, 2).sum(axis=(1, 3))
    bias = jnp.asarray(np.arange(columns) % 2 + 1, plane.dtype)
    return jnp.floor((sums + bias[None, :]) / 4.0)


def _double(plane: jax.Array) -> jax.Array:
    """libjpeg's h2v2_fancy_upsample: 3/4 of the near sample, 1/4 of the far one. (a, b) -> (2a, 2b)."""
    rows, columns = plane.shape
    tall = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    near = 3.0 * plane
    sums = jnp.stack([near + tall[:-2], near + tall[2:]], axis=1).reshape(2 * rows, columns)
    wide = jnp.pad(sums, ((0, 0), (1, 1)), mode="edge")
    near = 3.0 * sums
    left = jnp.floor((near + wide[:, :-2] + 8.0) / 16.0)
    right = jnp.floor((near + wide[:, 2:] + 7.0) / 16.0)
    return jnp.stack([left, right], axis=2).reshape(2 * rows, 2 * columns)


def jpeg_at_quality(image: jax.Array, quality: jax.Array | float) -> jax.Array:
    """The decoded pixels of a baseline 4:2:0 JPEG file with standard tables: (H, W, 3) float32, multiples of 1/255.

    `image` (H, W, 3) float32 sRGB in [0, 1] has any size and is rounded to 8 bits first; edges are extended as in
    libjpeg. `quality`, 1 to 100, may be traced and fractional.
    Source: ITU-T T.81, JFIF 1.02, and libjpeg's documented rounding.
    """
    height, width, _ = image.shape
    red, green, blue = (jnp.round(image[..., channel] * 255.0) for channel in range(3))
    y = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = jnp.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128.0)
    cr = jnp.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128.0)

    y = _code_plane(_pad_to(y, (8, 8)), scaled_table(LUMA_TABLE, quality))[:height, :width]
    half = -(-height // 2), -(-width // 2)
    table = scaled_table(CHROMA_TABLE, quality)

    def chroma(plane: jax.Array) -> jax.Array:
        # libjpeg extends columns before downsampling and rows after it.
        small = _pad_to(_halve(_pad_to(plane, (2, 16))), (8, 8))
        small = _code_plane(small, table)[: half[0], : half[1]]
        return _double(small)[:height, :width] - 128.0

    cb, cr = chroma(cb), chroma(cr)
    red = y + jnp.round(1.402 * cr)
    green = y + jnp.round(-0.344136286 * cb - 0.714136286 * cr)
    blue = y + jnp.round(1.772 * cb)
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0.0, 255.0) / 255.0


@degradation(9, "compression", kadid_levels=map(jpeg_severity, (43, 36, 24, 7, 4)))
def jpeg(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """JPEG (KADID-10k #10) at `jpeg_quality(severity)`: 95 just above severity 0, 4 at severity 1."""
    return jnp.where(severity > 0, jpeg_at_quality(image, jpeg_quality(severity)), image)


@degradation(31, "compression", chain_key=True)
def double_jpeg(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """JPEG twice, the second time on a displaced block grid and at another quality.

    The key draws the displacement (0 to 7 px each way, not both 0), the milder of the two severities (0.5 to 1 times
    the given one) and which of the two comes first. Range: ours, qualities as `jpeg`; not a KADID-10k type.
    """
    k_place, k_ratio, k_order = jax.random.split(key, 3)
    place = jax.random.randint(k_place, (), 1, 64)
    both = jnp.stack([jnp.float32(1.0), jax.random.uniform(k_ratio, minval=0.5)])
    both = jnp.where(jax.random.bernoulli(k_order), both, both[::-1])
    height, width, _ = image.shape

    def code(wider: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        row, column, quality = step
        window = lax.dynamic_slice(wider, (row, column, 0), (height + 8, width + 8, 3))
        return lax.dynamic_update_slice(wider, jpeg_at_quality(window, quality), (row, column, 0)), None

    # Extending the image by 8 px lets a block grid start anywhere; at 8 it is the image's own grid.
    wider = jnp.pad(image, ((8, 8), (8, 8), (0, 0)), mode="edge")
    rows, columns = jnp.stack([8, place // 8]), jnp.stack([8, place % 8])
    wider, _ = lax.scan(code, wider, (rows, columns, jpeg_quality(severity * both)))
    return jnp.where(severity > 0, wider[8 : 8 + height, 8 : 8 + width], image)


def subsample_matrix(length: int, factor: jax.Array) -> jax.Array:
    """Matrix (length, length): box means of a traced width >= 1, interpolated linearly back to the full length."""
    index = jnp.arange(length, dtype=jnp.float32)
    samples = jnp.ceil(length / factor - 1e-4)
    start = (index * factor)[:, None]
    overlap = jnp.minimum(index[None, :] + 1.0, start + factor) - jnp.maximum(index[None, :], start)
    overlap = jnp.maximum(overlap, 0.0)
    box = overlap / jnp.maximum(overlap.sum(axis=1, keepdims=True), 1e-6)
    place = jnp.clip((index + 0.5) / factor - 0.5, 0.0, samples - 1.0)
    tent = jnp.maximum(1.0 - jnp.abs(place[:, None] - index[None, :]), 0.0)
    return jnp.matmul(tent, box, precision=lax.Precision.HIGHEST)


@degradation(30, "compression")
def chroma_subsampling(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Keep Cb and Cr at 1 / 16**severity of the resolution, by box means and linear interpolation; luma stays.

    The 4:2:0 of JPEG and video is severity 1/4; a quarter of the resolution is 1/2. Range: ours; not a KADID-10k type.
    """
    factor = MOST_SUBSAMPLING ** jnp.asarray(severity, jnp.float32)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = jnp.stack([blue - y, red - y])
    rows, columns = (subsample_matrix(length, factor) for length in image.shape[:2])
    chroma = jnp.einsum("ij,cjw->ciw", rows, chroma, precision=lax.Precision.HIGHEST)
    blue, red = y[None] + jnp.einsum("chj,wj->chw", chroma, columns, precision=lax.Precision.HIGHEST)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0.0, 1.0)


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
