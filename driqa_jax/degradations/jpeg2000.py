"""JPEG 2000: irreversible color transform, CDF 9/7 wavelet, dead-zone quantizer with one step for all bands.

Entropy coding is lossless and left out. An encoder that spends its bits where they reduce the squared error most ends
near one step size for all bands, measured in the image domain. That step is the parameter here.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.entry import degradation, on_scale, scale_severities

# ITU-T T.800, table F.4: the lifting steps of the 9/7 filter.
LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
SCALE = 1.230174104914001
# In steps. The standard has 1, but an encoder also drops coefficients that cost more bits than they are worth. Of 1,
# 1.3 and 1.6 this is the first that matches OpenJPEG's SSIM at equal PSNR within about 0.02.
DEAD_ZONE = 1.3
LEVELS = 5  # the default of common encoders
# Norm of the RGB change per unit change of each component.
COMPONENT_NORMS = (3**0.5, (0.344136**2 + 1.772**2) ** 0.5, (1.402**2 + 0.714136**2) ** 0.5)
FINEST_STEP, COARSEST_STEP = 4.0, 400.0  # gray levels of 255; ours


def _neighbor_sums(band: np.ndarray, length: int, odd: bool) -> np.ndarray:
    """The sum of both neighbors of each of `length` samples, mirrored at the ends.

    `band` (n, ...) holds the samples of the other parity. With `odd`, sample i lies between band[i] and band[i + 1];
    otherwise it lies between band[i - 1] and band[i].
    """
    after = np.concatenate([band[1:] if odd else band, band[-1:]])[:length]
    before = np.concatenate([band[:0] if odd else band[:1], band])[:length]
    return before + after


def _lift(even: np.ndarray, odd: np.ndarray, steps: Iterable[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Lifting steps, each an index into LIFTING and a weight; even indices change the odd samples."""
    for index, weight in steps:
        if index % 2 == 0:
            odd = odd + weight * _neighbor_sums(even, odd.shape[0], odd=True)
        else:
            even = even + weight * _neighbor_sums(odd, even.shape[0], odd=False)
    return even, odd


def analyze(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One level of the 9/7 wavelet along the first axis, n >= 2: low (ceil(n/2), ...) and high (n // 2, ...)."""
    even, odd = _lift(line[0::2], line[1::2], enumerate(LIFTING))
    return even / SCALE, odd * (SCALE / 2)


def synthesize(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The inverse of `analyze`."""
    steps = [(index, -weight) for index, weight in enumerate(LIFTING)]
    even, odd = _lift(low * SCALE, high * (2 / SCALE), reversed(steps))
    line = np.empty((even.shape[0] + odd.shape[0], *even.shape[1:]))
    line[0::2], line[1::2] = even, odd
    return line


@functools.cache
def _matrices(length: int) -> tuple[np.ndarray, np.ndarray]:
    """One level as (length, length) matrices for analysis and synthesis, low band first.

    Two matrix products cost a seventh of lifting's strided slices on a CPU (128x128).
    """
    unit, half = np.eye(length), -(-length // 2)
    there, back = np.concatenate(analyze(unit)), synthesize(unit[:half], unit[half:])
    return there.astype(np.float32), back.astype(np.float32)


@functools.cache
def _norms() -> tuple[tuple[float, float], ...]:
    """Norms of the low-band and high-band synthesis waves of each level, finest first."""
    norms = []
    to_line, length = np.eye(512), 512
    for _ in range(LEVELS):
        waves = to_line @ _matrices(length)[1].astype(np.float64)
        half = length // 2
        low, high = (float(np.linalg.norm(waves[:, place])) for place in (half // 2, half + half // 2))
        norms.append((low, high))
        to_line, length = waves[:, :half], half
    return tuple(norms)


def _quantize(band: jax.Array, step: jax.Array) -> jax.Array:
    """Quantize and decode: a dead zone of +-1.3 steps, then whole steps, decoded to interval midpoints."""
    size = jnp.abs(band) / step
    index = jnp.floor(size)
    middle = jnp.where(index > 1, index + 0.5, (DEAD_ZONE + 2.0) / 2)
    return jnp.where(size >= DEAD_ZONE, jnp.sign(band) * middle * step, 0.0)


def _code(planes: jax.Array, step: jax.Array, level: int = 0) -> jax.Array:
    """Analyze, quantize and synthesize planes (3, H, W) from `level` on; step (3, 1, 1)."""
    _, height, width = planes.shape
    low, high = _norms()[level]
    rows, columns = _matrices(height), _matrices(width)

    def product(left: np.ndarray, middle: jax.Array, right: np.ndarray) -> jax.Array:
        exact = lax.Precision.HIGHEST
        out = jnp.einsum("ij,cjw->ciw", left, middle, precision=exact)
        return jnp.einsum("chj,wj->chw", out, right, precision=exact)

    bands = product(rows[0], planes, columns[0])
    tall, wide = -(-height // 2), -(-width // 2)
    smooth, last = bands[:, :tall, :wide], level + 1 == LEVELS
    smooth = _quantize(smooth, step / (low * low)) if last else _code(smooth, step, level + 1)
    top = jnp.concatenate([smooth, _quantize(bands[:, :tall, wide:], step / (low * high))], axis=2)
    left = _quantize(bands[:, tall:, :wide], step / (high * low))
    right = _quantize(bands[:, tall:, wide:], step / (high * high))
    bottom = jnp.concatenate([left, right], axis=2)
    return product(rows[1], jnp.concatenate([top, bottom], axis=1), columns[1])


def jpeg2000_at_step(image: jax.Array, step: jax.Array | float) -> jax.Array:
    """The decoded pixels of a JPEG 2000 file with this quantizer step: (H, W, 3) float32, multiples of 1/255.

    `image` (H, W, 3) float32 sRGB in [0, 1], sides at least 32, is rounded to 8 bits first. `step`, above 0 in gray
    levels of 255, is the step of a wave of unit norm in the image; it may be traced.
    Source: ITU-T T.800, annexes E, F, G (irreversible path, one tile, five levels).
    """
    red, green, blue = (jnp.round(image[..., channel] * 255.0) - 128.0 for channel in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = -0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 0.5 * red - 0.418688 * green - 0.081312 * blue
    steps = jnp.asarray(step, jnp.float32) / jnp.asarray(COMPONENT_NORMS, jnp.float32)
    y, cb, cr = _code(jnp.stack([y, cb, cr]), steps[:, None, None])
    planes = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return jnp.clip(jnp.round(jnp.stack(planes, axis=-1) + 128.0), 0.0, 255.0) / 255.0


def jpeg2000_step(severity: jax.Array | float) -> jax.Array:
    """The quantizer step of a severity in (0, 1]: 4 * 100**severity gray levels."""
    return on_scale(severity, FINEST_STEP, COARSEST_STEP)


# The steps at which ten 512x384 photographs lose, in the geometric mean, what OpenJPEG loses at KADID-10k's ratios.
@degradation(8, "compression", kadid_levels=scale_severities((17.9, 34.7, 46.4, 98, 245), FINEST_STEP, COARSEST_STEP))
def jpeg2000(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """JPEG 2000 with the step `jpeg2000_step(severity)`. KADID-10k #09 has compression ratios 16, 32, 45, 120, 400."""
    return jnp.where(severity > 0, jpeg2000_at_step(image, jpeg2000_step(severity)), image)
