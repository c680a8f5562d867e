"""The collectives that a per-device step uses; all functions run inside the step."""

import jax
from jax import lax

AXIS = "data"


def gather(x: jax.Array, axis: int = 0) -> jax.Array:
    """Concatenate the pieces of all devices along `axis`, in the order of the global batch."""
    return lax.all_gather(x, AXIS, axis=axis, tiled=True)


def local_slice(x: jax.Array, axis: int = 0) -> jax.Array:
    """This device's piece of a gathered array."""
    size = x.shape[axis] // lax.axis_size(AXIS)
    return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size, axis)


def share(global_value: jax.Array) -> jax.Array:
    """This device's share of a value that every device holds in full."""
    return global_value / lax.axis_size(AXIS)


def total(tree):
    """The sum over devices of every leaf."""
    return lax.psum(tree, AXIS)
