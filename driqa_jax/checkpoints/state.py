"""The state of a run: flat parameters, the trained ones separate from the frozen ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from driqa_jax.checkpoints.weights import flatten, unflatten

Flat = dict[str, jax.Array]  # arrays by path, "quality_encoder/vector/kernel"


class TrainState(NamedTuple):
    """`trainable` and `frozen` partition the parameters by path; `ema` averages `trainable`; `step` int32.

    `nonfinite_code` int32: 0, or the quantity that was not finite at `step`, see `train.step`.
    """

    step: jax.Array
    trainable: Flat
    frozen: Flat
    ema: Flat
    opt_state: Any
    nonfinite_code: jax.Array


def merge(*parts: Flat) -> dict:
    """Flat parts to one nested tree."""
    return unflatten({path: value for part in parts for path, value in part.items()})


def create(params: dict, is_trained: Callable[[str], bool], optimizer: optax.GradientTransformation) -> TrainState:
    """The first state of a run; `is_trained(path)` decides for each parameter."""
    flat = flatten(params)
    trainable = {path: value for path, value in flat.items() if is_trained(path)}
    frozen = {path: value for path, value in flat.items() if path not in trainable}
    # A copy, because the step donates its state and a buffer can be donated only once.
    ema = jax.tree.map(jnp.copy, trainable)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, trainable, frozen, ema, optimizer.init(trainable), jnp.copy(zero))
