"""Chains: sequences of degradations, each applied to many photos, in one compiled program.

A `vmap` over a `switch` would run every branch for every image. Chains are therefore scanned, the switch sees one
unbatched type, and only inside its branch does a `vmap` run over the photos of the chain.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.degradations.entry import Degradation
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, SMALLEST_SIDE

CLEAN = -1  # the type of an empty step: identity


class Chain(NamedTuple):
    """Steps in order of application; K stacked chains have a leading axis K on both fields.

    types: (S,) int32, indices into NAMES, or CLEAN for an empty step.
    severities: (S,) float32 in [0, 1], 0 for an empty step.
    """

    types: jax.Array
    severities: jax.Array


def _branch(entry: Degradation) -> Callable[..., jax.Array]:
    """The switch branch of one type: all photos of a chain at once, (P, H, W, 3) -> (P, H, W, 3)."""

    def run(key: jax.Array, photos: jax.Array, severity: jax.Array, photo_ids: jax.Array) -> jax.Array:
        if entry.chain_key:
            return jax.vmap(lambda photo: entry.fn(key, photo, severity))(photos)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(photo_ids)
        return jax.vmap(lambda k, photo: entry.fn(k, photo, severity))(keys, photos)

    return run


def apply_chains(
    key: jax.Array,
    photos: jax.Array,
    chains: Chain,
    photo_ids: jax.Array,
    eight_bit: bool = True,
    names: Sequence[str] = NAMES,
) -> jax.Array:
    """Apply every chain to every photo.

    Randomness in an image depends only on (key, index of the chain, step, photo id). A drawn parameter (the angle of
    motion, the sign of contrast) depends only on (key, index of the chain, step). Slices of the photos on many devices
    therefore give the result of one device, up to float32 rounding between two compilations. JPEG and quantization can
    enlarge that rounding to one of their steps.

    Args:
      key: a random key.
      photos: (P, H, W, 3) float32 in [0, 1], sides at least 32.
      chains: K chains: types (K, S) int32, severities (K, S) float32.
      photo_ids: (P,) int32, unique over hosts and devices.
      eight_bit: see `Recipe`.
      names: the types that chains may hold (`Recipe.drawn`). Only these are compiled; a step of another type is the
        identity.

    Returns:
      (K, P, H, W, 3) float32 in [0, 1].

    Raises:
      ValueError: wrong shapes, before compilation.
      TypeError: the photos are not float32.
    """
    if photos.ndim != 4 or photos.shape[-1] != 3 or min(photos.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(f"photos must be (P, H, W, 3) with sides of at least {SMALLEST_SIDE}, got {photos.shape}")
    if photos.dtype != jnp.float32:
        raise TypeError(f"photos must be float32 in [0, 1], got {photos.dtype}")
    if photo_ids.shape != photos.shape[:1]:
        raise ValueError(f"photo_ids must have one id per photo, got {photo_ids.shape} for photos {photos.shape}")
    if chains.types.ndim != 2 or chains.types.shape != chains.severities.shape:
        raise ValueError(
            f"chains.types and chains.severities must both be (K, S), got {chains.types.shape} "
            f"and {chains.severities.shape}"
        )
    drawn = [entry for entry in DEGRADATIONS if entry.name in names]
    branches = [lambda key, photos, severity, photo_ids: photos, *(_branch(entry) for entry in drawn)]
    place_of = {entry.name: place for place, entry in enumerate(drawn, start=1)}
    branch_of = jnp.array([0, *(place_of.get(name, 0) for name in NAMES)])

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        key, degraded = carry
        place, kind, severity = inputs
        step_key = jax.random.fold_in(key, place)
        degraded = lax.switch(branch_of[kind - CLEAN], branches, step_key, degraded, severity, photo_ids)
        return (key, degraded), None

    def one_chain(inputs: tuple[jax.Array, Chain]) -> jax.Array:
        index, chain = inputs
        places = jnp.arange(chain.types.shape[0])
        start = (jax.random.fold_in(key, index), photos)
        (_, degraded), _ = lax.scan(step, start, (places, chain.types, chain.severities))
        return jnp.round(degraded * 255.0) / 255.0 if eight_bit else degraded

    return lax.map(one_chain, (jnp.arange(chains.types.shape[0]), chains))


def labels(chains: Chain) -> tuple[jax.Array, jax.Array]:
    """The types in each chain: present (K, T) in {0, 1} and severity (K, T) in [0, 1], float32, T = len(NAMES)."""
    hits = (chains.types[..., None] == jnp.arange(len(NAMES))[None, None, :]).astype(jnp.float32)
    return hits.max(axis=1), (hits * chains.severities[..., None]).max(axis=1)
