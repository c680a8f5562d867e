"""Chains: sequences of degradations, sampled from recipes and applied to many photos on the device.

Neither needs host work or recompilation. A `vmap` over a `switch` would run every branch for every image. Chains are
therefore scanned, the switch sees one unbatched type, and only inside its branch does a `vmap` run over the photos.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.entry import Degradation
from driqa_jax.degradations.recipes import GROUPS, Mixture, Recipe
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, SMALLEST_SIDE

CLEAN = -1  # the type of an empty step: identity
_MEMBER = np.array([[entry.group == group for entry in DEGRADATIONS] for group in GROUPS])
_LEVELS = np.array([entry.kadid_levels or (np.nan,) * 5 for entry in DEGRADATIONS], np.float32)  # NaN: has none


class Chain(NamedTuple):
    """Steps in order of application; K stacked chains have a leading axis K on both fields."""

    types: jax.Array  # (S,) int32, indices into NAMES, or CLEAN for an empty step
    severities: jax.Array  # (S,) float32 in [0, 1], 0 for an empty step


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
      photos: (P, H, W, 3) float32 in [0, 1], sides at least 32.
      chains: K chains: types (K, S) int32, severities (K, S) float32.
      photo_ids: (P,) int32, unique over hosts and devices.
      eight_bit: see `Recipe`.
      names: the types that chains may hold (`Recipe.drawn`). Only these are compiled; a step of another type is the
        identity.

    Returns (K, P, H, W, 3) float32 in [0, 1]. Raises, before compilation, ValueError for wrong shapes and TypeError for
    photos that are not float32.
    """
    if photos.ndim != 4 or photos.shape[-1] != 3 or min(photos.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(f"photos must be (P, H, W, 3) with sides of at least {SMALLEST_SIDE}, got {photos.shape}")
    if photos.dtype != jnp.float32:
        raise TypeError(f"photos must be float32 in [0, 1], got {photos.dtype}")
    if photo_ids.shape != photos.shape[:1]:
        raise ValueError(f"photo_ids must have one id per photo, got {photo_ids.shape} for photos {photos.shape}")
    if chains.types.ndim != 2 or chains.types.shape != chains.severities.shape:
        shapes = f"{chains.types.shape} and {chains.severities.shape}"
        raise ValueError(f"chains.types and chains.severities must both be (K, S), got {shapes}")
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


def sample_chain(key: jax.Array, recipe: Recipe | Mixture) -> Chain:
    """Draw one chain: types (S,) int32, severities (S,) float32. Use vmap over keys for more.

    Empty steps come last. Without a `sequence`, types are drawn one by one in proportion to their weights, at most one
    of a group, and `step_weights` sets the distribution of their number. With probability `p_clean` the whole chain is
    clean.
    """
    if isinstance(recipe, Mixture):
        return _from_mixture(key, recipe)
    k_clean, k_steps, k_type, k_severity = jax.random.split(key, 4)
    draw = _in_sequence if recipe.sequence else _in_any_order
    types, used = draw(k_steps, k_type, recipe)
    used &= ~jax.random.bernoulli(k_clean, recipe.p_clean)
    # A stable sort moves empty steps to the end and keeps the order of the others.
    order = jnp.argsort(~used, stable=True)
    types = jnp.where(used, types, CLEAN)[order]
    return Chain(types, _severities(k_severity, types, recipe))


def sample_chains(key: jax.Array, recipe: Recipe | Mixture, count: int) -> Chain:
    """Draw `count` chains: types int32 and severities float32, (count, S). Chain i depends only on (key, i)."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    return jax.vmap(lambda k: sample_chain(k, recipe))(keys)


def _in_any_order(k_steps: jax.Array, k_type: jax.Array, recipe: Recipe) -> tuple[jax.Array, jax.Array]:
    """Types (S,) of different groups, and which of them are used (S,) bool."""
    weights = jnp.log(jnp.asarray(recipe.type_weights(), jnp.float32))
    # Gumbel top-k: log weights plus Gumbel noise, in descending order, sample types without replacement in proportion
    # to weight. Keeping the best type of each group drops the rest of its group from that sample.
    scores = jnp.where(_MEMBER, (weights + jax.random.gumbel(k_type, weights.shape))[None, :], -jnp.inf)
    _, groups = jax.lax.top_k(scores.max(axis=1), recipe.max_steps)
    types = scores.argmax(axis=1)[groups].astype(jnp.int32)
    steps = 1 + jax.random.categorical(k_steps, jnp.log(jnp.asarray(recipe.step_weights, jnp.float32)))
    return types, jnp.arange(recipe.max_steps) < steps


def _in_sequence(k_steps: jax.Array, k_type: jax.Array, recipe: Recipe) -> tuple[jax.Array, jax.Array]:
    """The type (S,) of each slot of the sequence, and which of them are used (S,) bool."""
    in_slot = np.array([[name in names for name in NAMES] for _, names in recipe.sequence])
    weights = in_slot * np.array(recipe.type_weights(), np.float32)[None, :]
    present = np.array([p for p, _ in recipe.sequence], np.float32) * weights.any(axis=1)
    types = jax.random.categorical(k_type, jnp.log(jnp.asarray(weights)), axis=-1).astype(jnp.int32)
    return types, jax.random.bernoulli(k_steps, jnp.asarray(present))


def _severities(key: jax.Array, types: jax.Array, recipe: Recipe) -> jax.Array:
    k_range, k_level = jax.random.split(key)
    severities = jax.random.uniform(k_range, types.shape, minval=recipe.severity_low, maxval=recipe.severity_high)
    if recipe.levels:
        level = jax.random.randint(k_level, types.shape, 0, _LEVELS.shape[1])
        at_level = jnp.asarray(_LEVELS)[types, level]
        severities = jnp.where(jnp.isnan(at_level), severities, at_level)
    return jnp.where(types == CLEAN, 0.0, severities)


def _from_mixture(key: jax.Array, mixture: Mixture) -> Chain:
    k_part, k_chain = jax.random.split(key)
    room = mixture.max_steps

    def padded(part: Recipe) -> Chain:
        chain = sample_chain(k_chain, part)
        empty = (0, room - part.max_steps)
        return Chain(jnp.pad(chain.types, empty, constant_values=CLEAN), jnp.pad(chain.severities, empty))

    drawn = jax.tree.map(lambda *each: jnp.stack(each), *(padded(part) for part, _ in mixture.parts))
    probabilities = jnp.asarray([p for _, p in mixture.parts], jnp.float32)
    which = jax.random.categorical(k_part, jnp.log(probabilities))
    return jax.tree.map(lambda each: each[which], drawn)
