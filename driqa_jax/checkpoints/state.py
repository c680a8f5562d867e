"""The state of a run: parameters as flat dictionaries, the trained ones apart from those that stay."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

Flat = dict[str, jax.Array]


class TrainState(NamedTuple):
    """`step` int32; `trainable` and `frozen` partition the parameters by path; `ema` averages `trainable`.

    `trouble` int32: 0, or what was not finite at `step`, see `health`; the state then stands still.
    """

    step: jax.Array
    trainable: Flat
    frozen: Flat
    ema: Flat
    opt_state: Any
    trouble: jax.Array


def flatten(params: dict) -> Flat:
    """Nested parameters to paths joined by '/'."""
    return traverse_util.flatten_dict(params, sep="/")


def merge(*parts: Flat) -> dict:
    """Flat parts to one nested tree."""
    return traverse_util.unflatten_dict({key: value for part in parts for key, value in part.items()}, sep="/")


def create(params: dict, is_trained, optimizer: optax.GradientTransformation) -> TrainState:
    """A run's first state. `is_trained(path) -> bool` decides for each parameter."""
    flat = flatten(params)
    trainable = {path: value for path, value in flat.items() if is_trained(path)}
    frozen = {path: value for path, value in flat.items() if path not in trainable}
    # A copy: the step donates its state, and one buffer cannot be given away twice.
    ema = jax.tree.map(jnp.copy, trainable)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, trainable, frozen, ema, optimizer.init(trainable), jnp.copy(zero))
