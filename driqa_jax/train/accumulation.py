"""A stage's loss in two halves, and its gradient from parts of the batch.

A loss that compares samples (contrast, RS, correlation) is not a sum over parts of the batch. It is a function of a
few numbers a sample, though, and these can be had part by part: first all parts are read without keeping activations;
then the comparison, on the whole batch, says what each reading owes; then every part is read again and the
parameters get their gradients. So value and gradient are those of the whole batch, whatever the loss, for the price
of one more forward pass. Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.errors import UserError


class Loss(NamedTuple):
    """A stage's loss on one device.

    read: (params, batch, step) -> readings, facts. Both are trees of arrays whose first axis runs in the order of the
      batch; gradients flow through `readings` (floats) alone.
    compare: (readings, facts, batch, step) -> this device's share of the loss, shares of its terms; see `parallel`.
    together: so many neighbouring examples are read together (divides a part); 0: all of them.
    why: where it is all of them, which keys ask for it and what to do, for who wants parts.
    """

    read: Callable
    compare: Callable
    together: int = 1
    why: str = ""

    def __call__(self, params, batch: dict, step) -> tuple[jax.Array, dict]:
        """The whole batch at once."""
        return self.compare(*self.read(params, batch, step), batch, step)


def value_and_grad(loss: Loss, params_of: Callable, parts: int) -> Callable:
    """The value, terms and gradients of a loss, from so many parts of this device's batch.

    Args:
      loss: of the stage.
      params_of: trainable -> the nested parameters that `loss` takes.
      parts: 1 for the whole batch at once.

    Returns:
      (trainable, batch, step) -> ((value, terms), gradients); equal for any number of parts to rounding.

    Raises:
      UserError (from what is returned): the batch cannot be read in so many parts.
    """

    def at_once(trainable, batch, step):
        return jax.value_and_grad(lambda x: loss(params_of(x), batch, step), has_aux=True)(trainable)

    def in_parts(trainable, batch, step):
        _require_parts(loss, next(iter(batch.values())).shape[0], parts)

        def read(trainable, piece):
            return loss.read(params_of(trainable), piece, step)

        pieces = _split(batch, parts)
        readings, facts = _join(lax.map(lambda piece: read(trainable, piece), pieces))
        told, owed = jax.value_and_grad(lambda x: loss.compare(x, facts, batch, step), has_aux=True)(readings)

        def add(total, inputs):
            piece, owed = inputs
            _, pull, _ = jax.vjp(lambda x: read(x, piece), trainable, has_aux=True)
            return jax.tree.map(jnp.add, total, *pull(owed)), None

        zeros = jax.tree.map(jnp.zeros_like, trainable)
        return told, lax.scan(add, zeros, (pieces, _split(owed, parts)))[0]

    return at_once if parts == 1 else in_parts


def _require_parts(loss: Loss, count: int, parts: int) -> None:
    if not loss.together:
        raise UserError(f"config.accumulate={parts}: {loss.why}")
    if count % (parts * loss.together):
        raise UserError(
            f"config.accumulate={parts} does not divide the {count} examples of a device into equal parts of whole "
            f"blocks of {loss.together}; set config.batch_size to a multiple of devices * accumulate * block"
        )


def _split(tree, parts: int):
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def _join(tree):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
