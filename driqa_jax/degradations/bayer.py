"""The colour filter array of a camera: one colour a pixel (RGGB), the others interpolated."""

import jax
import jax.numpy as jnp


def mosaic(image: jax.Array) -> jax.Array:
    """Keep the one colour that a sensor's pixel sees: red where row and column are even, blue where both are odd.

    image: float32 (H, W, 3). Returns float32 (H, W).
    """
    rows, columns = _parity(image.shape)
    return jnp.where(rows == columns, jnp.where(rows == 0, image[..., 0], image[..., 2]), image[..., 1])


def demosaic(raw: jax.Array) -> jax.Array:
    """Bilinear demosaicking: a missing colour is the mean of the nearest pixels that saw it, two or four.

    raw: float32 (H, W), RGGB; mirrored at the borders, which keeps the pattern. Returns float32 (H, W, 3).
    """
    rows, columns = _parity(raw.shape)
    wide = jnp.pad(raw, 1, mode="reflect")
    beside = (wide[1:-1, :-2] + wide[1:-1, 2:]) / 2
    above = (wide[:-2, 1:-1] + wide[2:, 1:-1]) / 2
    corners = (wide[:-2, :-2] + wide[:-2, 2:] + wide[2:, :-2] + wide[2:, 2:]) / 4
    green = jnp.where(rows != columns, raw, (beside + above) / 2)

    def sparse(parity: int) -> jax.Array:
        on_row, on_column = rows == parity, columns == parity
        return jnp.where(on_row, jnp.where(on_column, raw, beside), jnp.where(on_column, above, corners))

    return jnp.stack([sparse(0), green, sparse(1)], axis=-1)


def _parity(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Parity of each pixel's row and column, int32 (H, W) both."""
    return jnp.indices(shape[:2])[0] % 2, jnp.indices(shape[:2])[1] % 2
