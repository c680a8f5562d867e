"""Chains: random sequences of degradations, many photographs under each, in one compiled program.

A `vmap` over a `switch` runs every branch for every picture. So chains are scanned, the switch inside sees
one unbatched type, and only within its branch does a `vmap` run over the photographs that share the chain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, SMALLEST_SIDE, Degradation, find

CLEAN = -1  # the type of an empty step: identity

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(entry.group for entry in DEGRADATIONS))
_GROUP_OF = np.array([GROUPS.index(entry.group) for entry in DEGRADATIONS], np.int32)


class Chain(NamedTuple):
    """Steps in the order in which they are applied; a stack of K chains has a leading axis K on both.

    types: int32 (S,), places in NAMES, or CLEAN for an empty step. severities: float32 (S,), 0 where empty.
    """

    types: jax.Array
    severities: jax.Array


@dataclass(frozen=True)
class Recipe:
    """How chains are drawn.

    max_steps: S, the steps a chain has room for.
    step_weights: relative frequency of 1, 2, ... max_steps steps.
    p_clean: probability that a chain is empty.
    severity_low, severity_high: severities are uniform between them.
    names: the types to draw from.
    eight_bit: round the final picture to multiples of 1/255, as a stored file is (hand it to `apply_chains`).
    """

    max_steps: int = 4
    step_weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    p_clean: float = 0.1
    severity_low: float = 0.1
    severity_high: float = 1.0
    names: tuple[str, ...] = NAMES
    eight_bit: bool = True

    def __post_init__(self) -> None:
        groups = {find(name).group for name in self.names}
        if not groups:
            raise ValueError(f"recipe.names is empty; give some of {', '.join(NAMES)}")
        if not 1 <= self.max_steps <= len(groups):
            raise ValueError(
                f"recipe.max_steps is {self.max_steps}; a chain takes one of a group and the names given "
                f"form {len(groups)} groups: give 1 to {len(groups)}"
            )
        if (
            len(self.step_weights) != self.max_steps
            or min(self.step_weights) < 0
            or sum(self.step_weights) <= 0
        ):
            raise ValueError(
                f"recipe.step_weights is {self.step_weights}; give {self.max_steps} (max_steps) weights, "
                "none negative, not all 0"
            )
        if not 0.0 <= self.p_clean <= 1.0:
            raise ValueError(f"recipe.p_clean is {self.p_clean}; give a probability")
        if not 0.0 <= self.severity_low <= self.severity_high <= 1.0:
            raise ValueError(
                f"recipe.severity_low, severity_high are {self.severity_low}, {self.severity_high}; "
                "give 0 <= low <= high <= 1"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Recipe":
        """A recipe from a mapping of its fields. Raises ValueError for an unknown key or a bad value."""
        known = [field.name for field in fields(cls)]
        unknown = [key for key in config if key not in known]
        if unknown:
            raise ValueError(
                f"recipe has no {', '.join(map(repr, unknown))}; its keys are {', '.join(known)}"
            )
        return cls(**{key: tuple(v) if isinstance(v, (list, tuple)) else v for key, v in config.items()})


def sample_chain(key: jax.Array, recipe: Recipe) -> Chain:
    """Draw one chain (vmap over keys for more). Returns types int32 (S,), severities float32 (S,).

    Groups are drawn uniformly and without replacement, in random order; then a type within each group,
    uniformly. The number of steps is drawn first, by `step_weights`, and the whole chain is clean with
    probability `p_clean`.
    """
    k_clean, k_count, k_order, k_type, k_severity = jax.random.split(key, 5)
    allowed = np.array([name in recipe.names for name in NAMES])
    member = (_GROUP_OF[None, :] == np.arange(len(GROUPS))[:, None]) & allowed[None, :]
    present = np.flatnonzero(member.any(axis=1)).astype(np.int32)

    order = jax.random.permutation(k_order, jnp.asarray(present))[: recipe.max_steps]
    within = jnp.where(jnp.asarray(member)[order], 0.0, -jnp.inf)
    types = jax.random.categorical(k_type, within, axis=-1).astype(jnp.int32)

    weights = jnp.asarray(recipe.step_weights, jnp.float32)
    steps = 1 + jax.random.categorical(k_count, jnp.log(weights))
    steps = jnp.where(jax.random.bernoulli(k_clean, recipe.p_clean), 0, steps)
    used = jnp.arange(recipe.max_steps) < steps
    severities = jax.random.uniform(
        k_severity, (recipe.max_steps,), minval=recipe.severity_low, maxval=recipe.severity_high
    )
    return Chain(jnp.where(used, types, CLEAN), jnp.where(used, severities, 0.0))


def sample_chains(key: jax.Array, recipe: Recipe, count: int) -> Chain:
    """Draw `count` chains: types int32 and severities float32 (count, S); chain i hangs on (key, i) alone."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda k: sample_chain(k, recipe))(keys)


def _branch(entry: Degradation):
    """The switch's branch of one type: all photographs of a chain at once, (P, H, W, 3) -> (P, H, W, 3)."""

    def run(key: jax.Array, photos: jax.Array, severity: jax.Array, photo_ids: jax.Array) -> jax.Array:
        if entry.chain_key:
            return jax.vmap(lambda photo: entry.fn(key, photo, severity))(photos)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(photo_ids)
        return jax.vmap(lambda k, photo: entry.fn(k, photo, severity))(keys, photos)

    return run


def apply_chains(
    key: jax.Array, photos: jax.Array, chains: Chain, photo_ids: jax.Array, eight_bit: bool = True
) -> jax.Array:
    """Put every photograph through every chain.

    photos: float32 (P, H, W, 3) in [0, 1], sides at least 32. chains: K of them (types int32 (K, S),
    severities float32 (K, S)). photo_ids: int32 (P,), global over hosts and devices. eight_bit: see `Recipe`.
    Returns float32 (K, P, H, W, 3). What is random in a picture hangs on (key, chain's place, step, photo id)
    alone, and a drawn parameter (motion's angle, contrast's sign) on (key, chain's place, step): slices of
    the photographs on many devices come out as on one, up to float32 rounding between two compilations (which
    JPEG or quantization can enlarge to one of their steps, for a value that lies on the edge of two).
    Raises ValueError for wrong shapes, before anything is compiled.
    """
    if photos.ndim != 4 or photos.shape[-1] != 3 or min(photos.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(
            f"photos have shape {photos.shape}; give (photos, H, W, 3), sides {SMALLEST_SIDE} or more"
        )
    if photos.dtype != jnp.float32:
        raise TypeError(f"photos are {photos.dtype}; give float32 in [0, 1]")
    if photo_ids.shape != photos.shape[:1]:
        raise ValueError(
            f"photo_ids have shape {photo_ids.shape} and photos {photos.shape}; give one id a photo"
        )
    if chains.types.ndim != 2 or chains.types.shape != chains.severities.shape:
        raise ValueError(
            f"chains have types {chains.types.shape} and severities {chains.severities.shape}; "
            "give (K, S) for both"
        )
    branches = [lambda key, photos, severity, photo_ids: photos, *(_branch(entry) for entry in DEGRADATIONS)]

    def step(carry, inputs):
        key, degraded = carry
        place, kind, severity = inputs
        step_key = jax.random.fold_in(key, place)
        degraded = lax.switch(kind - CLEAN, branches, step_key, degraded, severity, photo_ids)
        return (key, degraded), None

    def one_chain(inputs):
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
