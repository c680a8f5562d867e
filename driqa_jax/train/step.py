"""The training step: a stage's loss, its gradient from parts of the batch, and the guard against non-finite values.

Accumulation is exact for losses that compare samples (contrast, RS, correlation), which are not sums over parts of the
batch. They are functions of a few numbers per sample: the first pass reads all parts without keeping activations, the
comparison on the whole batch gives the cotangent of each reading, and the second pass reads each part again and pulls
the cotangents back to the parameters. The price is one more forward pass. Source: Gao et al., "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.

After the first non-finite value the state is frozen, so it stays valid even if the host checks late.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from driqa_jax import distributed
from driqa_jax.checkpoints.manager import TrainState
from driqa_jax.checkpoints.weights import unflatten
from driqa_jax.errors import UserError
from driqa_jax.models import precision
from driqa_jax.train import optim

NONFINITE, NORM = "nonfinite_code", "gradient_norm"  # keys of a step's metrics besides the loss and its terms


class Loss(NamedTuple):
    """A stage's loss on one device.

    read: (params, batch, step) -> (readings, facts). Both are trees of arrays whose first axis follows the batch; only
      `readings` (floats) carry gradients.
    compare: (readings, facts, batch, step) -> (this device's share of the loss, shares of its terms).
    group_size: consecutive examples that must be read together; 0: the whole batch.
    why_whole: for group_size 0, the keys that require it and what to change.
    """

    read: Callable
    compare: Callable
    group_size: int = 1
    why_whole: str = ""

    def __call__(self, params: dict, batch: dict, step: jax.Array | int) -> tuple[jax.Array, dict]:
        """The loss of the whole batch in one pass."""
        return self.compare(*self.read(params, batch, step), batch, step)


def value_and_grad(loss: Loss, params_of: Callable, parts: int) -> Callable:
    """The value, terms and gradients of a loss from `parts` parts of this device's batch; 1 reads it in one pass.

    `params_of`: trainable -> the nested parameters that `loss` takes.

    Returns (trainable, batch, step) -> ((value, terms), gradients), equal for any number of parts up to rounding. It
    raises UserError if the batch cannot be split into that many parts.
    """

    def in_one_pass(trainable, batch, step):
        return jax.value_and_grad(lambda x: loss(params_of(x), batch, step), has_aux=True)(trainable)

    def in_parts(trainable, batch, step):
        count = next(iter(batch.values())).shape[0]
        if not loss.group_size:
            raise UserError(f"config.accumulate={parts}: {loss.why_whole}")
        if count % (parts * loss.group_size):
            raise UserError(
                f"config.accumulate={parts} does not divide the {count} examples of a device into equal parts of whole "
                f"groups of {loss.group_size}; set config.batch_size to a multiple of devices * accumulate * group"
            )

        def read(trainable, part):
            return loss.read(params_of(trainable), part, step)

        split = _split(batch, parts)
        readings, facts = _join(lax.map(lambda part: read(trainable, part), split))
        result, cotangents = jax.value_and_grad(lambda x: loss.compare(x, facts, batch, step), has_aux=True)(readings)

        def add(total, inputs):
            part, cotangents = inputs
            _, pull, _ = jax.vjp(lambda x: read(x, part), trainable, has_aux=True)
            return jax.tree.map(jnp.add, total, *pull(cotangents)), None

        zeros = jax.tree.map(jnp.zeros_like, trainable)
        return result, lax.scan(add, zeros, (split, _split(cotangents, parts)))[0]

    return in_one_pass if parts == 1 else in_parts


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, ema: float, compute: str = "float32", accumulate: int = 1
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """The per-device step `(state, batch) -> (state, metrics)`, for `distributed.map_step`.

    If the loss or a gradient is not finite, only `nonfinite_code` of the state changes.

    Args:
      optimizer: works on flat parameters.
      ema: decay of the average.
      compute: "float32" or "bfloat16", the model's dtype; parameters, gradients, losses and state stay float32.
      accumulate: number of parts in which a device reads its batch.
    """

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        def params_of(trainable):
            return unflatten(precision.cast(trainable, compute), precision.cast(state.frozen, compute))

        gradients = value_and_grad(loss, params_of, accumulate)
        (value, terms), grads = gradients(state.trainable, batch, state.step)
        grads, value, terms = distributed.total((grads, value, terms))
        terms = {"loss": value, **terms}
        squared = squared_norms(grads)
        code = nonfinite_code(state.nonfinite_code, terms, squared)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        average = optim.average(state.ema, trainable, ema, state.step)
        after = state._replace(step=state.step + 1, trainable=trainable, ema=average, opt_state=opt_state)
        kept = jax.tree.map(lambda new, old: jnp.where(code == 0, new, old), after, state)
        metrics = {**terms, NORM: jnp.sqrt(squared.sum()), NONFINITE: code}
        return kept._replace(frozen=state.frozen, nonfinite_code=code), metrics

    return step


def squared_norms(grads: dict[str, jax.Array]) -> jax.Array:
    """(N,) float32: the squared norm of each parameter's gradient, in the order of sorted paths."""
    return jnp.stack([jnp.sum(jnp.square(grads[path])) for path in sorted(grads)])


def nonfinite_code(before: jax.Array, terms: dict[str, jax.Array], squared: jax.Array) -> jax.Array:
    """int32: 0 while everything is finite, else the number (from 1) of the first non-finite quantity, which stays.

    `before`: the code so far. `terms`: scalars, the loss and its terms. `squared`: (N,) from `squared_norms`.
    """
    values = jnp.concatenate([jnp.stack([terms[name] for name in sorted(terms)]), squared])
    bad = ~jnp.isfinite(values)
    return jnp.where(before > 0, before, jnp.where(bad.any(), bad.argmax() + 1, 0)).astype(jnp.int32)


def nonfinite_name(code: int, metrics: Iterable[str], paths: Iterable[str]) -> str:
    """The quantity that a code above 0 stands for; `metrics`: keys of a step's metrics, `paths`: trained parameters."""
    terms, paths = sorted(set(metrics) - {NONFINITE, NORM}), sorted(paths)
    if code <= len(terms):
        return f"the loss term {terms[code - 1]!r}"
    return f"the gradient of {paths[code - 1 - len(terms)]}"


def _split(tree, parts: int):
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def _join(tree):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
