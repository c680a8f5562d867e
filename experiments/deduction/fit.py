"""Training of `DeductionHead` on kept features: first the level on rated photographs, then the drops under it.

The drops learn from images with a known fault, whose target is the score without it less the visible drop, from images
where a fault covers a known part, and from ordinary photographs. A rated photograph must keep a ceiling above its
rating. Of the faults of one that people rated low nothing is known, unless somebody looked: then the groups of types
that were named must explain what the rating lacks. The level is frozen in the second phase.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from driqa_jax.models.deduction import FLOOR, DeductionHead, Places, lost_of, pooled

LOW = 0.7  # a photograph rated below may have any fault
SEEN, DOUBTFUL = (0.22, 0.7), 0.13  # drops of what somebody named, and named with doubt; `VISIBLE` lies between
# Is told the loss of each step: which loss, the step from 1, its value, of which nothing waits.
ReportFn = Callable[[str, int, jax.Array], Any]


def unreported(name: str, step: int, loss: jax.Array) -> None:
    """A `ReportFn` that does nothing."""


class Rated(NamedTuple):
    """Rated photographs: `moments` (N, F) float, `mos` (N,) in [0, 1]."""

    moments: np.ndarray
    mos: np.ndarray


class Examples(NamedTuple):
    """What the drops learn from: `moments` (N, F), `cells` (N, M, F''), `vectors` (N, K, C), `near` (N, M, K).

    `central` (N, M), as in `Places`; `area` (N, M), the share of the fault in each cell; `base` (N,), the score without
    it; `types` (N,) int, -1 for none; `drops` (N,) its visible drop; `kinds` (N,) str, see `examples.KINDS`. `faults`
    (N, G), of each group of types, in the order of their first types: 1 if somebody named it, else 0; NaN where nobody
    looked. `doubtful` (N,) bool: whether it was said to be hardly worth a word.
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
    """What is known of examples: `target`, the score to reach, `base`, `weight` (B,); `rated` (B,) bool; `named`
    (B, T), the drop of each type where it is; `area` (B, M).

    Of rated photographs also `seen` (B, G), 1 for groups of types that somebody named, `lacks` (B,), the drop that
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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train.

    `epochs`, `batch`, `rate`, `decay`, `correlation`: of the level; `correlation` weighs 1 - PLCC within a batch.
    `models`: levels trained from different seeds and averaged; they are one hidden layer of `head.level_width` units.
    `steps`, `drop_batch`, `drop_rate`, `drop_decay`: of the drops. `mix`: relative frequencies of the kinds. `naming`
    weighs the cross-entropy of each cell's and type's drop, `ordinary` what ordinary photographs lose of their ceiling.
    `margin`: of the ceiling of a rated photograph above its rating, unless a fault was named. `by_eye` weighs
    `missed_by_eye`. `hidden`: the share of examples whose vectors are replaced by their mean, so that cells tell too.
    """

    epochs: int = 20
    batch: int = 64
    rate: float = 1e-3
    decay: float = 1e-2
    correlation: float = 0.0
    models: int = 1
    steps: int = 12000
    drop_batch: int = 24
    drop_rate: float = 8e-4
    drop_decay: float = 0.15
    mix: tuple[tuple[str, float], ...] = (
        ("kadid", 0.35),
        ("rated", 0.35),
        ("part", 0.4),
        ("camera", 0.25),
        ("clean", 0.1),
        ("focus", 0.08),
        ("file", 0.12),
        ("hard", 0.25),
        ("noise", 0.05),
        ("dark", 0.06),
    )
    naming: float = 6.0
    ordinary: float = 6.0
    margin: float = 0.05
    by_eye: float = 1.0
    hidden: float = 0.15
    seed: int = 0


def fit(
    head: DeductionHead,
    rated: Rated,
    examples: Examples,
    weights: Sequence[float],
    recipe: Recipe = Recipe(),
    report: ReportFn = unreported,
) -> dict:
    """Parameters of the trained head.

    `weights` (T,): of each type's loss. Equal input and recipe give equal parameters on one machine. Raises ValueError
    if array lengths disagree.
    """
    if len(rated.moments) != len(rated.mos):
        raise ValueError(f"rated: {len(rated.moments)} moments and {len(rated.mos)} scores; give as many of each")
    if head.level_width % recipe.models:
        raise ValueError(f"level_width must be a multiple of models={recipe.models}, got {head.level_width}")
    if len({len(x) for x in examples}) != 1:
        raise ValueError(f"examples: arrays have lengths {[len(x) for x in examples]}; give equal lengths")
    params = {**initial(head, examples, recipe.seed), **fit_levels(head, rated, recipe, report)}
    return fit_drops(head, params, examples, weights, recipe, report)


def initial(head: DeductionHead, examples: Examples, seed: int) -> dict:
    """Random parameters of the head; those that standardize cells and vectors are of the examples."""
    first = [jnp.asarray(x[:1], jnp.float32) for x in (examples.moments, examples.cells, examples.vectors)]
    places = Places(
        *(jnp.asarray(x[:1], jnp.float32) for x in (examples.near, examples.central)), jnp.ones((1, 1), bool)
    )
    return {
        **head.init(jax.random.key(seed), *first, places)["params"],
        "standardize_cells": _standard(examples.cells[:, :8].reshape(-1, examples.cells.shape[-1])),
        "standardize_vectors": _standard(examples.vectors.reshape(-1, examples.vectors.shape[-1])),
    }


def fit_levels(head: DeductionHead, rated: Rated, recipe: Recipe, report: ReportFn = unreported) -> dict:
    """Parameters of the level: the average of `recipe.models` narrower ones."""
    narrow, standardized = head.clone(level_width=head.level_width // recipe.models), _standard(rated.moments)
    sample = jnp.zeros((1, rated.moments.shape[1]))
    hidden, out = [], []
    for number in range(recipe.models):
        own = dataclasses.replace(recipe, seed=recipe.seed + 100 * number)
        fresh = narrow.init(jax.random.key(own.seed), sample, method="level")["params"]
        told = functools.partial(report, f"loss of level {number + 1}")
        trained = _fit_level(narrow, {**fresh, "standardize_moments": standardized}, rated, own, told)
        hidden.append(trained["level_hidden"])
        out.append(trained["level_out"])
    return {
        "standardize_moments": standardized,
        "level_hidden": jax.tree.map(lambda *each: jnp.concatenate(each, axis=-1), *hidden),
        "level_out": {
            "kernel": jnp.concatenate([each["kernel"] for each in out]) / recipe.models,
            "bias": sum(each["bias"] for each in out) / recipe.models,
        },
    }


def levels(head: DeductionHead, params: dict, moments: np.ndarray, batch: int = 1024) -> np.ndarray:
    """The level (N,) float32 of kept moments (N, F)."""
    run = jax.jit(lambda p, x: head.apply({"params": p}, x, method="level"))
    parts = [run(params, _wide(moments[i : i + batch])) for i in range(0, len(moments), batch)]
    return np.concatenate([np.asarray(part) for part in parts])


def fit_drops(
    head: DeductionHead,
    params: dict,
    examples: Examples,
    weights: Sequence[float],
    recipe: Recipe,
    report: ReportFn = unreported,
) -> dict:
    """`params` with trained drops under the level that they hold; `weights` (T,) of each type's loss."""
    data, level = targets(head, examples, weights), levels(head, params, examples.moments)
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

    trained = ("drop_of_cells", "drop_of_image", "drop_of_vectors", "drop_out")
    step, state_of = trainer(loss, recipe.drop_rate, recipe.drop_decay, recipe.steps, trained)
    state, seed = state_of(params), recipe.seed + 1
    rng, nothing = np.random.default_rng(seed + 1), np.asarray(params["standardize_vectors"]["shift"])
    for number, rows in enumerate(batches(examples.kinds, recipe.mix, recipe.drop_batch, recipe.steps, seed)):
        cells, vectors, near, central = (
            _wide(x[rows]) for x in (examples.cells, examples.vectors, examples.near, examples.central)
        )
        vectors[rng.random(len(rows)) < recipe.hidden] = nothing
        arrays = _wide(level[rows]), cells, vectors, near, central
        keys = random_keys(seed, number, len(rows))
        params, state, value = step(params, state, *arrays, Batch(*(x[rows] for x in data)), keys)
        report("loss of the drops", number + 1, value)
    return params


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


def batches(
    kinds: np.ndarray, mix: Sequence[tuple[str, float]], size: int, steps: int, seed: int
) -> Iterator[np.ndarray]:
    """Rows (size,) of examples of `kinds` (N,), as often as `mix` says of each kind, `steps` times."""
    rng = np.random.default_rng(seed)
    rows_of = {kind: np.flatnonzero(kinds == kind) for kind, _ in mix}
    present = [(rows_of[kind], share) for kind, share in mix if len(rows_of[kind])]
    shares = np.array([share for _, share in present])
    for _ in range(steps):
        drawn = rng.choice(len(present), size, p=shares / shares.sum())
        yield np.array([present[kind][0][rng.integers(len(present[kind][0]))] for kind in drawn])


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _standard(x: np.ndarray) -> dict[str, jax.Array]:
    # float64: sums over float16 rows overflow.
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.astype(np.float32).std(axis=0)
    # As a weights file rounds them, because the rest learns on top. The constant bounds the scale, which is float16.
    return {"shift": _stored(mean), "scale": _stored(1 / (deviation + 1e-4))}


def _stored(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x.astype(np.float16), jnp.float32)


def trainer(loss, rate: float, decay: float, steps: int, trained: tuple[str, ...]):
    """A jitted step (params, state, *batch) -> (params, state, loss) and the initial optimizer state's maker."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 10), max(steps, 2))
    optimizer = optax.adamw(schedule, weight_decay=decay)

    def split(params):
        return {name: params[name] for name in trained}

    def step(params, state, *batch):
        value, gradient = jax.value_and_grad(lambda part: loss({**params, **part}, *batch))(split(params))
        updates, state = optimizer.update(gradient, state, split(params))
        return {**params, **optax.apply_updates(split(params), updates)}, state, value

    return jax.jit(step), lambda params: optimizer.init(split(params))


def random_keys(seed: int, step: int, count: int) -> jax.Array:
    """Keys (count,) of a step."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), step), count)


def _fit_level(head, params, rated, recipe, report):
    def loss(params, moments, mos, keys):
        level = head.apply({"params": params}, moments, keys, method="level")
        return jnp.abs(level - mos).mean() + recipe.correlation * (1 - _correlation(level, mos))

    rng, count = np.random.default_rng(recipe.seed), len(rated.mos)
    per_epoch = max(count // recipe.batch, 1)
    steps = recipe.epochs * per_epoch
    step, state_of = trainer(loss, recipe.rate, recipe.decay, steps, ("level_hidden", "level_out"))
    state, number = state_of(params), 0
    for _ in range(recipe.epochs):
        order = rng.permutation(count)
        for i in range(per_epoch):
            rows = order[i * recipe.batch : (i + 1) * recipe.batch]
            batch = _wide(rated.moments[rows]), _wide(rated.mos[rows]), random_keys(recipe.seed, number, len(rows))
            params, state, value = step(params, state, *batch)
            number += 1
            report(number, value)
    return params


def targets(head: DeductionHead, examples: Examples, weights: Sequence[float]) -> Batch:
    """What is known of all examples; `weights` (T,) of each type's loss."""
    applied, types, area, weights = examples.types >= 0, examples.types, _wide(examples.area), _wide(weights)
    shares = np.asarray(head.shares or np.ones(head.types))[types] * applied
    lost = np.asarray(lost_of(examples.drops)) * shares
    whole = np.asarray(pooled(jnp.asarray(lost[:, None, None] * area[:, :, None]), jnp.ones(area.shape, bool)))[:, 0]
    named = np.zeros((len(types), head.types), np.float32)
    named[np.flatnonzero(applied), types[applied]] = examples.drops[applied]
    base, weight = _wide(examples.base), np.where(applied, weights[types], 1.0)
    target = FLOOR + (base - FLOOR) * np.exp(-whole)
    looked = ~np.isnan(examples.faults).any(axis=1)
    # The ceiling of a rated photograph must stay above its rating, so no more than this is to be explained.
    lacks = np.clip(1 - (base - FLOOR) / (head.top - FLOOR), *SEEN)
    lacks = np.where(examples.doubtful, DOUBTFUL, lacks)
    by_eye = np.where(looked[:, None], _wide(examples.faults), 0.0), _wide(lacks), _wide(looked)
    return Batch(_wide(target), base, _wide(weight), examples.kinds == "rated", named, area, *by_eye)


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / jnp.sqrt(jnp.square(a).sum() * jnp.square(b).sum() + 1e-12)
