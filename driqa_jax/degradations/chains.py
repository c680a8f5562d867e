"""Chains: sequences of degradations, many photographs under each, in one compiled program.

A `vmap` over a `switch` runs every branch for every picture. So chains are scanned, the switch inside sees
one unbatched type, and only within its branch does a `vmap` run over the photographs that share the chain.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, SMALLEST_SIDE, Degradation

CLEAN = -1  # the type of an empty step: identity


class Chain(NamedTuple):
    """Steps in the order in which they are applied; a stack of K chains has a leading axis K on both.

    types: int32 (S,), places in NAMES, or CLEAN for an empty step. severities: float32 (S,), 0 where empty.
    """

    types: jax.Array
    severities: jax.Array


def _branch(entry: Degradation) -> Callable[..., jax.Array]:
    """The switch's branch of one type: all photographs of a chain at once, (P, H, W, 3) -> (P, H, W, 3)."""

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
    """Put every photograph through every chain.

    photos: float32 (P, H, W, 3) in [0, 1], sides at least 32. chains: K of them (types int32 (K, S),
    severities float32 (K, S)). photo_ids: int32 (P,), global over hosts and devices. eight_bit: see `Recipe`.
    names: the types that chains may hold (`Recipe.drawn`); only these are compiled, and a step of another type does
    nothing.
    Returns float32 (K, P, H, W, 3). What is random in a picture hangs on (key, chain's place, step, photo id)
    alone, and a drawn parameter (motion's angle, contrast's sign) on (key, chain's place, step): slices of
    the photographs on many devices come out as on one, up to float32 rounding between two compilations (which
    JPEG or quantization can enlarge to one of their steps, for a value that lies on the edge of two).
    Raises ValueError for wrong shapes, before anything is compiled.
    """
    if photos.ndim != 4 or photos.shape[-1] != 3 or min(photos.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(f"photos have shape {photos.shape}; give (photos, H, W, 3), sides {SMALLEST_SIDE} or more")
    if photos.dtype != jnp.float32:
        raise TypeError(f"photos are {photos.dtype}; give float32 in [0, 1]")
    if photo_ids.shape != photos.shape[:1]:
        raise ValueError(f"photo_ids have shape {photo_ids.shape} and photos {photos.shape}; give one id a photo")
    if chains.types.ndim != 2 or chains.types.shape != chains.severities.shape:
        raise ValueError(
            f"chains have types {chains.types.shape} and severities {chains.severities.shape}; give (K, S) for both"
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
    """What chains hold: present (K, T) in {0, 1} and severity (K, T), both float32; T = len(NAMES)."""
    hits = (chains.types[..., None] == jnp.arange(len(NAMES))[None, None, :]).astype(jnp.float32)
    return hits.max(axis=1), (hits * chains.severities[..., None]).max(axis=1)
