"""Sampling chains from a recipe on the device, without host work or recompilation."""

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.degradations.chains import CLEAN, Chain
from driqa_jax.degradations.recipes import GROUPS, Mixture, Recipe
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES

_MEMBER = np.array([[entry.group == group for entry in DEGRADATIONS] for group in GROUPS])
# NaN for types without levels.
_LEVELS = np.array([entry.kadid_levels or (np.nan,) * 5 for entry in DEGRADATIONS], np.float32)


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
    low, high = recipe.severity_low, recipe.severity_high
    severities = jax.random.uniform(k_range, types.shape, minval=low, maxval=high)
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
