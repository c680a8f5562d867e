"""Training of `DeductionHead` on kept features: first the level on rated photographs, then the drops under it.

The drops learn from degraded copies of pristine photographs, whose target is the level of the photograph less the
human drop, and from ordinary photographs, which must keep their level. The level is frozen in the second phase.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from driqa_jax.models.deduction import FLOOR, DeductionHead


class Rated(NamedTuple):
    """Rated photographs: `moments` (N, F) float, `mos` (N,) in [0, 1]."""

    moments: np.ndarray
    mos: np.ndarray


class Degraded(NamedTuple):
    """Degraded copies: `moments` (N, F), `vectors` (N, K, C), `pristine` (N,) the row of the photograph itself.

    `types` (N,) int, -1 for a photograph itself; `drops` (N,) the human drop in [0, 1]; `weights` (N,) of the loss.
    """

    moments: np.ndarray
    vectors: np.ndarray
    pristine: np.ndarray
    types: np.ndarray
    drops: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train.

    `epochs`, `batch`, `rate`, `decay`, `correlation`: of the level; `correlation` weighs 1 - PLCC within a batch.
    `models`: levels trained from different seeds and averaged; they are one hidden layer of `head.level_width` units.
    `steps`, `degraded_batch`, `ordinary_batch`, `drop_rate`, `drop_decay`: of the drops. `naming` weighs the
    cross-entropy of each type's drop, `ordinary` the share of the ceiling that ordinary photographs lose.
    """

    epochs: int = 20
    batch: int = 64
    rate: float = 1e-3
    decay: float = 1e-4
    correlation: float = 0.0
    models: int = 1
    steps: int = 1500
    degraded_batch: int = 96
    ordinary_batch: int = 64
    drop_rate: float = 2e-3
    drop_decay: float = 1e-2
    naming: float = 0.9
    ordinary: float = 1.0
    seed: int = 0


def fit(head: DeductionHead, rated: Rated, degraded: Degraded, ordinary: np.ndarray, recipe: Recipe = Recipe()) -> dict:
    """Parameters of the trained head. `ordinary`: vectors (M, K, C) of ordinary photographs.

    Equal input and recipe give equal parameters on one machine. Raises ValueError if array lengths disagree.
    """
    if len(rated.moments) != len(rated.mos):
        raise ValueError(f"rated: {len(rated.moments)} moments and {len(rated.mos)} scores; give as many of each")
    if head.level_width % recipe.models:
        raise ValueError(f"level_width must be a multiple of models={recipe.models}, got {head.level_width}")
    if len({len(x) for x in degraded}) != 1:
        raise ValueError(f"degraded: arrays have lengths {[len(x) for x in degraded]}; give equal lengths")
    sample = jnp.zeros((1, rated.moments.shape[1])), jnp.zeros((1, *ordinary.shape[1:]))
    params = head.init(jax.random.key(recipe.seed), *sample)["params"]
    both = np.concatenate([degraded.vectors.reshape(-1, ordinary.shape[-1]), ordinary.reshape(-1, ordinary.shape[-1])])
    params = {
        **params,
        "standardize_moments": _standard(rated.moments),
        "standardize_vectors": _standard(both),
    }
    params = {**params, **_averaged_levels(head, params, rated, recipe)}
    return _fit_drops(head, params, degraded, ordinary, recipe)


def levels(head: DeductionHead, params: dict, moments: np.ndarray, batch: int = 1024) -> np.ndarray:
    """The level (N,) float32 of kept moments (N, F)."""
    run = jax.jit(lambda p, x: head.apply({"params": p}, x, method="level"))
    parts = [run(params, _wide(moments[i : i + batch])) for i in range(0, len(moments), batch)]
    return np.concatenate([np.asarray(part) for part in parts])


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _standard(x: np.ndarray) -> dict[str, jax.Array]:
    # float64: sums over float16 rows overflow.
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.astype(np.float32).std(axis=0)
    # As a weights file rounds them, because the rest learns on top. The constant bounds the scale, which is float16.
    return {"shift": _stored(mean), "scale": _stored(1 / (deviation + 1e-4))}


def _stored(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x.astype(np.float16), jnp.float32)


def _trainer(loss, rate: float, decay: float, steps: int, trained: tuple[str, ...]):
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


def _keys(seed: int, step: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), step), count)


def _averaged_levels(head, params, rated, recipe):
    """Parameters of the level branch: the average of `recipe.models` narrower ones."""
    narrow = head.clone(level_width=head.level_width // recipe.models)
    sample = jnp.zeros((1, rated.moments.shape[1]))
    hidden, out = [], []
    for number in range(recipe.models):
        own = dataclasses.replace(recipe, seed=recipe.seed + 100 * number)
        fresh = narrow.init(jax.random.key(own.seed), sample, method="level")["params"]
        trained = _fit_level(narrow, {**fresh, "standardize_moments": params["standardize_moments"]}, rated, own)
        hidden.append(trained["level_hidden"])
        out.append(trained["level_out"])
    return {
        "level_hidden": jax.tree.map(lambda *each: jnp.concatenate(each, axis=-1), *hidden),
        "level_out": {
            "kernel": jnp.concatenate([each["kernel"] for each in out]) / recipe.models,
            "bias": sum(each["bias"] for each in out) / recipe.models,
        },
    }


def _fit_level(head, params, rated, recipe):
    def loss(params, moments, mos, keys):
        level = head.apply({"params": params}, moments, keys, method="level")
        return jnp.abs(level - mos).mean() + recipe.correlation * (1 - _correlation(level, mos))

    rng, count = np.random.default_rng(recipe.seed), len(rated.mos)
    per_epoch = max(count // recipe.batch, 1)
    steps = recipe.epochs * per_epoch
    step, state_of = _trainer(loss, recipe.rate, recipe.decay, steps, ("level_hidden", "level_out"))
    state, number = state_of(params), 0
    for _ in range(recipe.epochs):
        order = rng.permutation(count)
        for i in range(per_epoch):
            rows = order[i * recipe.batch : (i + 1) * recipe.batch]
            batch = _wide(rated.moments[rows]), _wide(rated.mos[rows]), _keys(recipe.seed, number, len(rows))
            params, state, _ = step(params, state, *batch)
            number += 1
    return params


def _fit_drops(head, params, degraded, ordinary, recipe):
    level = levels(head, params, degraded.moments)
    pristine = level[degraded.pristine]
    shares = np.asarray(head.shares or np.ones(head.types))[degraded.types] * (degraded.types >= 0)
    target = _wide(FLOOR + (pristine - FLOOR) * (1 - degraded.drops) ** shares)
    named = np.zeros((len(level), head.types), np.float32)
    applied = degraded.types >= 0
    named[np.flatnonzero(applied), degraded.types[applied]] = degraded.drops[applied]

    def loss(params, vectors, level, target, named, weight, others, keys):
        count = len(level)
        seen = head.apply({"params": params}, level, vectors, keys[:count], method="deduct")
        rest = head.apply({"params": params}, jnp.ones(len(others)), others, keys[count:], method="deduct")
        drop = jnp.clip(seen.drops.mean(axis=1), 1e-4, 1 - 1e-4)
        entropy = -(named * jnp.log(drop) + (1 - named) * jnp.log1p(-drop)).mean(axis=1)
        fit = jnp.abs(seen.mos - target) + recipe.naming * entropy
        return (weight * fit).mean() + recipe.ordinary * (1 - rest.keep).mean()

    rng = np.random.default_rng(recipe.seed + 1)
    step, state_of = _trainer(loss, recipe.drop_rate, recipe.drop_decay, recipe.steps, ("drop_hidden", "drop_out"))
    state = state_of(params)
    for number in range(recipe.steps):
        rows = rng.choice(len(level), recipe.degraded_batch)
        others = rng.choice(len(ordinary), recipe.ordinary_batch)
        arrays = (
            degraded.vectors[rows],
            level[rows],
            target[rows],
            named[rows],
            degraded.weights[rows],
            ordinary[others],
        )
        keys = _keys(recipe.seed + 1, number, recipe.degraded_batch + recipe.ordinary_batch)
        params, state, _ = step(params, state, *(_wide(x) for x in arrays), keys)
    return params


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / jnp.sqrt(jnp.square(a).sum() * jnp.square(b).sum() + 1e-12)
