"""GMSD, a full-reference metric, in JAX."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.sharpness import LUMA

GMSD_C = 170.0 / 255.0**2


def gmsd(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Gradient magnitude similarity deviation of luma, at least 0, lower is better.

    image, reference: (..., H, W, 3) float in [0, 1], sides at least 4; `image` is clipped. Returns (...) float32.

    Source: Xue et al., IEEE TIP 23(2), 2014, eq. 3 to 6: half size, Prewitt gradients, c = 170 / 255^2. The border of
    one pixel, which the authors fill with zeros, is ignored.
    """
    luma = jnp.asarray(LUMA, jnp.float32)
    x, y = (_gradient(_halved(jnp.tensordot(z, luma, axes=1))) for z in (jnp.clip(image, 0.0, 1.0), reference))
    return ((2 * x * y + GMSD_C) / (x * x + y * y + GMSD_C)).std(axis=(-2, -1))


def _halved(plane: jax.Array) -> jax.Array:
    height, width = (side // 2 * 2 for side in plane.shape[-2:])
    return sum(plane[..., i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)) / 4


def _gradient(plane: jax.Array) -> jax.Array:
    """Gradient magnitude by Prewitt kernels without padding: (..., H, W) -> (..., H - 2, W - 2)."""

    def across(x, axis):
        size = x.shape[axis] - 2
        first, middle, last = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3))
        return first - last, (first + middle + last) / 3

    down, smooth = across(plane, plane.ndim - 2)
    vertical, horizontal = across(down, plane.ndim - 1)[1], across(smooth, plane.ndim - 1)[0]
    return jnp.sqrt(horizontal**2 + vertical**2)
