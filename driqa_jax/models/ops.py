"""Image operations: depthwise convolution as shifted multiply-adds with a custom backward pass, and a 3x3 median.

XLA's CPU backend runs grouped convolutions at under 1 GFLOP/s, and the automatic transpose of the shifted form is
several times slower than necessary. On an accelerator the same code fuses into one kernel.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def _pads(shape: tuple[int, ...], kernel: int, stride: int) -> list[tuple[int, int]]:
    return lax.padtype_to_pads(shape[1:3], (kernel, kernel), (stride, stride), "SAME")


def _pad(x: jax.Array, kernel: int, stride: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), *_pads(x.shape, kernel, stride), (0, 0)))


def _shifted_sum(padded: jax.Array, w: jax.Array, stride: int, height: int, width: int) -> jax.Array:
    """Sum over taps of a strided slice of `padded` times that tap's weights."""
    out = None
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            cols = slice(j, j + (width - 1) * stride + 1, stride)
            term = padded[:, rows, cols, :] * w[i, j][None, None, None, :]
            out = term if out is None else out + term
    return out


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve each channel with its own kernel, 'SAME' padding with zeros.

    `x` (B, H, W, C) float, `w` (k, k, C) float with k odd, one `stride` for both axes. Returns (B, ceil(H/stride),
    ceil(W/stride), C), equal to `lax.conv_general_dilated` with `feature_group_count=C` and padding 'SAME'. Raises
    ValueError if the channels of `x` and `w` differ, or the kernel is not square.
    """
    if w.ndim != 3 or w.shape[0] != w.shape[1] or w.shape[2] != x.shape[-1]:
        raise ValueError(f"depthwise_conv: kernel must be (k, k, C) for images {x.shape}, got {w.shape}")
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    return _shifted_sum(_pad(x, w.shape[0], stride), w, stride, height, width)


def _forward(x, w, stride):
    return depthwise_conv(x, w, stride), (x, w)


def _backward(stride, saved, dy):
    x, w = saved
    return _input_gradient(x.shape, w, stride, dy), _kernel_gradient(x, w.shape[0], stride, dy)


def _input_gradient(shape, w, stride, dy):
    """The shifted form with a flipped kernel, over `dy` dilated to the grid of the input."""
    kernel = w.shape[0]
    pads = []
    for size, out, (before, _) in zip(shape[1:3], dy.shape[1:3], _pads(shape, kernel, stride), strict=True):
        low = kernel - 1 - before
        spread = (out - 1) * stride + 1
        pads.append((low, size + kernel - 1 - low - spread, stride - 1))
    padded = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    return _shifted_sum(padded, w[::-1, ::-1], 1, shape[1], shape[2])


def _kernel_gradient(x, kernel, stride, dy):
    """Row by row, so that an input row stays in cache for all its taps."""
    padded = _pad(x, kernel, stride)
    batch, height, width, channels = dy.shape
    wide = jnp.promote_types(x.dtype, jnp.float32)  # a sum of thousands of terms needs more than bfloat16

    def row(h: jax.Array, total: jax.Array) -> jax.Array:
        slab = lax.dynamic_slice_in_dim(padded, h * stride, kernel, axis=1)
        grad = lax.dynamic_slice_in_dim(dy, h, 1, axis=1)[:, 0]
        span = (width - 1) * stride + 1
        cells = (slab[:, i, j : j + span : stride, :] for i in range(kernel) for j in range(kernel))
        return total + jnp.stack([jnp.sum(cell * grad, axis=(0, 1), dtype=wide) for cell in cells])

    zeros = jnp.zeros((kernel * kernel, channels), wide)
    return lax.fori_loop(0, height, row, zeros).reshape(kernel, kernel, channels).astype(x.dtype)


depthwise_conv.defvjp(_forward, _backward)


# Exchanges that bring the median to the fifth of nine values (Smith, XCELL 23, 1996; Paeth, Graphics Gems, 1990).
_EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


def median3(images: jax.Array) -> jax.Array:
    """Median over the 3x3 neighborhood of each pixel, per channel: (M, H, W, C) float -> (M, H, W, C).

    Border pixels repeat beyond the border: it equals `scipy.ndimage.median_filter` with mode "nearest". The gradient
    goes to the pixel that is the median. It removes impulse noise, which a few convolutions learn only slowly.
    """
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    taps = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    for low, high in _EXCHANGES:
        taps[low], taps[high] = jnp.minimum(taps[low], taps[high]), jnp.maximum(taps[low], taps[high])
    return taps[4]
