"""The recipe of the form "deduction", and what the trainings of its parts on kept features have in common."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Is told the loss of each step: which loss, the step from 1, its value, of which nothing waits.
ReportFn = Callable[[str, int, jax.Array], Any]


def unreported(name: str, step: int, loss: jax.Array) -> None:
    """A `ReportFn` that does nothing."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train.

    `epochs`, `batch`, `rate`, `decay`, `correlation`: of the level; `correlation` weighs 1 - PLCC within a batch.
    `models`: levels trained from different seeds and averaged; they are one hidden layer of `head.level_width` units.
    `steps`, `drop_batch`, `drop_rate`, `drop_decay`: of the drops. `mix`: relative frequencies of the kinds. `naming`
    weighs the cross-entropy of each cell's and type's drop, `ordinary` what ordinary photographs lose of their ceiling.
    `margin`: of the ceiling of a photograph above its rating or level, unless a fault was named. `by_eye` weighs
    `missed_by_eye`. `hidden`: the share of examples whose vectors are replaced by their mean, so that cells tell too.
    """

    epochs: int = 20
    batch: int = 64
    rate: float = 1e-3
    decay: float = 1e-2
    correlation: float = 0.0
    models: int = 1
    steps: int = 18000
    drop_batch: int = 24
    drop_rate: float = 8e-4
    drop_decay: float = 0.15
    mix: tuple[tuple[str, float], ...] = (
        ("kadid", 0.38),
        ("rated", 0.35),
        ("unrated", 0.1),
        ("part", 0.4),
        ("camera", 0.25),
        ("clean", 0.2),
        ("focus", 0.08),
        ("file", 0.12),
        ("hard", 0.27),
        ("noise", 0.12),
        ("dark", 0.08),
    )
    naming: float = 6.0
    ordinary: float = 6.0
    margin: float = 0.05
    by_eye: float = 1.3
    hidden: float = 0.15
    seed: int = 0


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


def wide(x: np.ndarray) -> np.ndarray:
    """As float32."""
    return np.asarray(x, np.float32)


def standard(x: np.ndarray) -> dict[str, jax.Array]:
    """The parameters of `Standardize` for rows (N, F)."""
    # float64: sums over float16 rows overflow.
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.astype(np.float32).std(axis=0)
    # As a weights file rounds them, because the rest learns on top. The constant bounds the scale, which is float16.
    return {"shift": _stored(mean), "scale": _stored(1 / (deviation + 1e-4))}


def _stored(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x.astype(np.float16), jnp.float32)
