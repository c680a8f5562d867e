"""What a loss accepts: arrays of stated shapes, computed in float32 at least."""

import jax
import jax.numpy as jnp


def require_shape(loss: str, name: str, array: jax.Array, like: str, shape: tuple[int, ...]) -> None:
    """Refuse an array whose shape is not the one asked for.

    `(B,)` against `(B, 1)` broadcasts to `(B, B)` and trains on nonsense without a word, hence no
    broadcasting.

    Args:
      loss: the function that asks, for the message.
      name: the argument's name.
      array: any shape.
      like: what sets the shape, for the message, for example `pred`.
      shape: the shape that `array` must have.

    Raises:
      ValueError: the shapes differ; the message names both.
    """
    if jnp.shape(array) != tuple(shape):
        raise ValueError(
            f"{loss}: {name} has shape {jnp.shape(array)}, but {like} asks for {tuple(shape)}; "
            f"reshape or slice {name} first, nothing is broadcast here"
        )


def require_rank(loss: str, name: str, array: jax.Array, layout: str) -> None:
    """Refuse an array with another number of axes than `layout`, for example `(M, C)`, has.

    Raises:
      ValueError: the message names the shape and the layout.
    """
    axes = len([axis for axis in layout.strip("()").split(",") if axis.strip()])
    if jnp.ndim(array) != axes:
        raise ValueError(f"{loss}: {name} has shape {jnp.shape(array)}, but must be {layout}")


def wide(array: jax.Array) -> jax.Array:
    """Any shape, any real dtype -> the same values in float32 (float64 stays).

    Sums over a batch in bfloat16 keep under three digits, too few for a loss.
    """
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
