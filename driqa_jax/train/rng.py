"""Named random streams: a key is a function of (seed, name, step) only.

No random state is stored or split, so a resumed run draws what an uninterrupted run would have drawn.
Source: the form of kauldron's `rngs_lib`.
"""

import zlib

import jax


def stream(seed: int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of a named stream at a step, the same on every device and host."""
    # Python's hash of a string differs between processes; crc32 does not.
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(named, step)


def per_example(key: jax.Array, index: jax.Array) -> jax.Array:
    """(B,) keys, each a function of `key` and the example's position in the data, `index` (B,) int."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
