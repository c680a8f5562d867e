"""Named random streams: a key is a function of (seed, name, step) and nothing else.

Nothing random is stored or split along the way, so a run that resumes draws what it would have drawn.
Source of the form: kauldron's `rngs_lib`.
"""

import zlib

import jax


def stream(seed: int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of one named stream at one step, the same on every device and host."""
    # crc32, since Python's own hash of a string differs from process to process.
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(named, step)


def per_example(key: jax.Array, index: jax.Array) -> jax.Array:
    """(B,) keys, each a function of the stream's key and the example's place in the data, `index` (B,) int."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
