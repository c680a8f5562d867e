"""Shape checks, similarities between vectors, and a softmax over admissible entries."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

# Vectors shorter than 1e-4 are scaled by 1e4 instead of normalized: no division by zero, finite gradients.
SHORTEST_SQUARED = 1e-8
# Finite, so that a row without admissible entries produces no NaN on the way and jax_debug_nans stays usable.
INADMISSIBLE = -1e30


def require_shapes(
    loss: str, layout: str | None, alike: Mapping[str, jax.Array], labels: Mapping[str, jax.Array] | None = None
) -> None:
    """Raise ValueError unless the first array of `alike` has the axes of `layout`, for example `(M, C)`, the others of
    `alike` have its shape, and every label is `(M,)`. A layout of None allows any shape."""
    (first, reference), *others = alike.items()
    shape = jnp.shape(reference)
    if layout and len(shape) != len(layout.split()):
        raise ValueError(f"{loss}: {first} must be {layout}, got shape {shape}")
    expected = [(name, array, shape, first) for name, array in others]
    expected += [(name, label, shape[:1], f"{first} {shape}") for name, label in (labels or {}).items()]
    for name, array, needed, like in expected:
        if jnp.shape(array) != needed:
            raise ValueError(
                f"{loss}: {name} must have shape {needed} to match {like}, got {jnp.shape(array)}; "
                "losses do not broadcast, so reshape or slice it first"
            )


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
