"""Shape checks, similarities between vectors, and a softmax over admissible entries."""

import jax
import jax.numpy as jnp

# Vectors shorter than 1e-4 are scaled by 1e4 instead of normalized: no division by zero, finite gradients.
SHORTEST_SQUARED = 1e-8
# Finite, so that a row without admissible entries produces no NaN on the way and jax_debug_nans stays usable.
INADMISSIBLE = -1e30


def require_shape(loss: str, name: str, array: jax.Array, like: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `array` has this shape; `like` says in the message what sets the shape."""
    if jnp.shape(array) != tuple(shape):
        raise ValueError(
            f"{loss}: {name} must have shape {tuple(shape)} to match {like}, got {jnp.shape(array)}; "
            "losses do not broadcast, so reshape or slice it first"
        )


def require_rank(loss: str, name: str, array: jax.Array, layout: str) -> None:
    """Raise ValueError unless `array` has as many axes as `layout`, for example `(M, C)`."""
    axes = len([axis for axis in layout.strip("()").split(",") if axis.strip()])
    if jnp.ndim(array) != axes:
        raise ValueError(f"{loss}: {name} must be {layout}, got shape {jnp.shape(array)}")


def require_labels(loss: str, vectors: str, array: jax.Array, **labels: jax.Array) -> None:
    """Raise ValueError unless every label is `(M,)` with the M of the `vectors` array `(M, C)`."""
    for name, label in labels.items():
        require_shape(loss, name, label, f"{vectors} {jnp.shape(array)}", jnp.shape(array)[:1])


def wide(array: jax.Array) -> jax.Array:
    """The same values, any shape, in float32 at least: a batch sum in bfloat16 has under three digits."""
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def unit(z: jax.Array) -> jax.Array:
    """`(..., C)` vectors -> `(..., C)` float32 of length 1; a zero vector stays zero."""
    z = wide(z)
    squared = jnp.sum(z * z, axis=-1, keepdims=True)
    return z * jax.lax.rsqrt(jnp.maximum(squared, SHORTEST_SQUARED))


def similarities(a: jax.Array, b: jax.Array, tau: float) -> jax.Array:
    """`(M, C)`, `(N, C)` -> `(M, N)` float32 cosines divided by `tau`."""
    # Full precision, since an accelerator's default rounds products to 3 digits and 1/tau magnifies that.
    return jnp.matmul(unit(a), unit(b).T, precision=jax.lax.Precision.HIGHEST) / tau


def masked_log_softmax(scores: jax.Array, admissible: jax.Array) -> jax.Array:
    """Log softmax of `scores` `(M, N)` along the last axis over `admissible` `(M, N)` bool entries; 0 elsewhere.

    A row without admissible entries is all zeros, with zero gradient.
    """
    logs = jax.nn.log_softmax(jnp.where(admissible, scores, INADMISSIBLE), axis=-1)
    return jnp.where(admissible, logs, 0.0)


def mean_over(values: jax.Array, kept: jax.Array) -> jax.Array:
    """Scalar mean of `values` over `kept`, bool of the same shape; 0 if `kept` is empty."""
    count = jnp.maximum(jnp.sum(kept), 1)
    return jnp.sum(jnp.where(kept, values, 0.0)) / count
