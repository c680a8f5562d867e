"""Training of the drops of `DeductionHead`, under a level that is frozen.

The drops learn from images with a known fault, whose target is the score without it less the visible drop, from images
where a fault covers a known part, and from ordinary photographs. A rated photograph must keep a ceiling above its
rating. Of the faults of one that people rated low nothing is known, unless somebody looked: then the groups of types
that were named must explain what the rating lacks. Where somebody looked and nobody rated, the level stands for the
rating.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.models.deduction import FLOOR, DeductionHead, Places, lost_of, pooled
from experiments.deduction.level import levels
from experiments.deduction.training import (
    Recipe,
    ReportFn,
    batches,
    random_keys,
    standard,
    trainer,
    unreported,
    wide,
)

LOW = 0.7  # a photograph rated below may have any fault
SEEN, DOUBTFUL = (0.22, 0.7), 0.13  # drops of what somebody named, and named with doubt; `VISIBLE` lies between


class Examples(NamedTuple):
    """What the drops learn from: `moments` (N, F), `cells` (N, M, F''), `vectors` (N, K, C), `near` (N, M, K).

    `central` (N, M), as in `Places`; `area` (N, M), the share of the fault in each cell; `base` (N,), the score without
    it, -1 where nobody rated; `types` (N,) int, -1 for none; `drops` (N,) its visible drop; `kinds` (N,) str, see
    `examples.KINDS`. `faults` (N, G), of each group of types, in the order of their first types: 1 if somebody named
    it, else 0; NaN where nobody looked. `doubtful` (N,) bool: whether it was said to be hardly worth a word.
    """

    moments: np.ndarray
    cells: np.ndarray
    vectors: np.ndarray
    near: np.ndarray
    central: np.ndarray
    area: np.ndarray
    base: np.ndarray
    types: np.ndarray
    drops: np.ndarray
    kinds: np.ndarray
    faults: np.ndarray
    doubtful: np.ndarray


class Batch(NamedTuple):
    """What is known of examples: `target`, the score to reach, `base`, `weight` (B,); `rated` (B,) bool, whether it
    is a photograph as it was; `named` (B, T), the drop of each type where it is; `area` (B, M).

    Of such photographs also `seen` (B, G), 1 for groups of types that somebody named, `lacks` (B,), the drop that
    they explain together, and `looked` (B,), 1 where somebody looked, else 0.
    """

    target: np.ndarray
    base: np.ndarray
    weight: np.ndarray
    rated: np.ndarray
    named: np.ndarray
    area: np.ndarray
    seen: np.ndarray
    lacks: np.ndarray
    looked: np.ndarray


def fit_drops(
    head: DeductionHead,
    level: dict,
    examples: Examples,
    weights: Sequence[float],
    recipe: Recipe,
    report: ReportFn = unreported,
) -> dict:
    """The parameters of a `level` with trained drops under it; `weights` (T,) of each type's loss."""
    first = [jnp.asarray(x[:1], jnp.float32) for x in (examples.moments, examples.cells, examples.vectors)]
    near, central = (jnp.asarray(x[:1], jnp.float32) for x in (examples.near, examples.central))
    places = Places(near, central, jnp.ones((1, 1), bool))
    params = {
        **head.init(jax.random.key(recipe.seed), *first, places)["params"],
        "standardize_cells": standard(examples.cells[:, :8].reshape(-1, examples.cells.shape[-1])),
        "standardize_vectors": standard(examples.vectors.reshape(-1, examples.vectors.shape[-1])),
        **level,
    }
    predicted = levels(head, params, examples.moments)
    base = np.where(examples.base < 0, predicted, examples.base)  # where nobody rated, the level stands for it
    data = targets(head, examples._replace(base=base), weights)
    members = groups_of(head)

    def loss(params, level, cells, vectors, near, central, batch, keys):
        places = Places(near, central, jnp.ones(central.shape, bool))
        found = head.apply({"params": params}, level, cells, vectors, places, keys, method="deduct")
        drops = jnp.clip(found.drops, 1e-6, 1 - 1e-6)
        named = batch.named[:, None, :] * batch.area[:, :, None]
        entropy = -(named * jnp.log(drops) + (1 - named) * jnp.log1p(-drops)).mean(axis=(1, 2))
        known = names_known(batch)
        score = jnp.where(batch.rated, 0.0, batch.weight * jnp.abs(found.mos - batch.target))
        margin = recipe.margin * (1 - batch.looked * batch.seen.max(axis=1))
        above = 2 * nn.relu(batch.base + margin - found.ceiling)
        clean = jnp.where(batch.named.sum(axis=1) == 0, 1 - found.keep, 0.0)
        return (
            score
            + recipe.naming * batch.weight * known * entropy
            + recipe.ordinary * jnp.where(batch.rated, above, clean)
            + recipe.by_eye * missed_by_eye(lost_of(found.drop) @ members, batch)
        ).mean()

    trained = tuple(name for name in params if name.startswith("drop_"))
    step, state_of = trainer(loss, recipe.drop_rate, recipe.drop_decay, recipe.steps, trained)
    state, seed = state_of(params), recipe.seed + 1
    rng, nothing = np.random.default_rng(seed + 1), np.asarray(params["standardize_vectors"]["shift"])
    for number, rows in enumerate(batches(examples.kinds, recipe.mix, recipe.drop_batch, recipe.steps, seed)):
        cells, vectors, near, central = (
            wide(x[rows]) for x in (examples.cells, examples.vectors, examples.near, examples.central)
        )
        vectors[rng.random(len(rows)) < recipe.hidden] = nothing
        arrays = wide(predicted[rows]), cells, vectors, near, central
        keys = random_keys(seed, number, len(rows))
        params, state, value = step(params, state, *arrays, Batch(*(x[rows] for x in data)), keys)
        report("loss of the drops", number + 1, value)
    return params


def targets(head: DeductionHead, examples: Examples, weights: Sequence[float]) -> Batch:
    """What is known of all examples; `weights` (T,) of each type's loss."""
    applied, types, area, weights = examples.types >= 0, examples.types, wide(examples.area), wide(weights)
    shares = np.asarray(head.shares or np.ones(head.types))[types] * applied
    lost = np.asarray(lost_of(examples.drops)) * shares
    whole = np.asarray(pooled(jnp.asarray(lost[:, None, None] * area[:, :, None]), jnp.ones(area.shape, bool)))[:, 0]
    named = np.zeros((len(types), head.types), np.float32)
    named[np.flatnonzero(applied), types[applied]] = examples.drops[applied]
    base, weight = wide(examples.base), np.where(applied, weights[types], 1.0)
    target = FLOOR + (base - FLOOR) * np.exp(-whole)
    looked = ~np.isnan(examples.faults).any(axis=1)
    # The ceiling of a rated photograph must stay above its rating, so no more than this is to be explained.
    lacks = np.clip(1 - (base - FLOOR) / (head.top - FLOOR), *SEEN)
    lacks = np.where(examples.doubtful, DOUBTFUL, lacks)
    by_eye = np.where(looked[:, None], wide(examples.faults), 0.0), wide(lacks), wide(looked)
    rated = np.isin(examples.kinds, ("rated", "unrated"))
    return Batch(wide(target), base, wide(weight), rated, named, area, *by_eye)


def names_known(batch: Batch) -> jax.Array:
    """How much is known of the absence of faults that are not named, (B,) in [0, 1].

    A photograph rated low may have any; where somebody looked, `missed_by_eye` says more.
    """
    return jnp.where(batch.rated, (1 - batch.looked) * jnp.clip((batch.base - LOW) / 0.1, 0, 1), 1.0)


def missed_by_eye(lost: jax.Array, batch: Batch) -> jax.Array:
    """How far the losses of groups of types (B, G) are from what somebody saw, (B,); 0 where nobody looked.

    The groups that were named explain together what the rating lacks; it is not known which of them how much.
    """
    drop = jnp.clip(1 - jnp.exp(-(lost * batch.seen).sum(axis=1)), 1e-6, 1 - 1e-6)
    named = -batch.lacks * jnp.log(drop) - (1 - batch.lacks) * jnp.log1p(-drop)
    others = (lost * (1 - batch.seen)).sum(axis=1)
    return batch.looked * (jnp.where(batch.seen.any(axis=1), named, 0.0) + others)


def groups_of(head: DeductionHead) -> np.ndarray:
    """(T, G) float32, 1 where a type is of a group; groups in the order of their first types."""
    first = np.unique(head.same, axis=1, return_index=True)[1]
    return head.same[:, np.sort(first)]
