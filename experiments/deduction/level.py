"""Training of the level of `DeductionHead` on photographs with scores, of people or of the teacher."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.models.deduction import DeductionHead
from experiments.deduction.training import Recipe, ReportFn, random_keys, standard, trainer, unreported, wide


class Rated(NamedTuple):
    """Rated photographs: `moments` (N, F) float, `mos` (N,) in [0, 1]."""

    moments: np.ndarray
    mos: np.ndarray


def fit_levels(head: DeductionHead, rated: Rated, recipe: Recipe, report: ReportFn = unreported) -> dict:
    """Parameters of the level: the average of `recipe.models` narrower ones."""
    narrow, standardized = head.clone(level_width=head.level_width // recipe.models), standard(rated.moments)
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
    parts = [run(params, wide(moments[i : i + batch])) for i in range(0, len(moments), batch)]
    return np.concatenate([np.asarray(part) for part in parts])


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
            batch = wide(rated.moments[rows]), wide(rated.mos[rows]), random_keys(recipe.seed, number, len(rows))
            params, state, value = step(params, state, *batch)
            number += 1
            report(number, value)
    return params


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / jnp.sqrt(jnp.square(a).sum() * jnp.square(b).sum() + 1e-12)
