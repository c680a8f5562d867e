"""The training step: one per-device function, whatever the stage."""

import jax
import jax.numpy as jnp
import optax

from driqa_jax import distributed
from driqa_jax.checkpoints.state import TrainState, merge
from driqa_jax.models import precision
from driqa_jax.train import health, optim
from driqa_jax.train.accumulation import Loss, value_and_grad


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, ema: float, compute: str = "float32", accumulate: int = 1
):
    """The per-device step.

    Args:
      loss: of the stage.
      optimizer: on flat parameters.
      ema: decay of the average.
      compute: "float32" or "bfloat16", of the model; parameters, gradients, losses and the state stay float32.
      accumulate: in how many parts a device reads its batch.

    Returns:
      step(state, batch) -> (state, metrics), to be mapped by `distributed.map_step`. Where loss or gradients are not
      finite the state comes back as it was, but for its `trouble`, see `health`.
    """

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        def params_of(trainable):
            return merge(precision.cast(trainable, compute), precision.cast(state.frozen, compute))

        gradients = value_and_grad(loss, params_of, accumulate)
        (value, terms), grads = gradients(state.trainable, batch, state.step)
        grads, value, terms = distributed.total((grads, value, terms))
        terms = {"loss": value, **terms}
        squared = health.squares(grads)
        trouble = health.mark(state.trouble, terms, squared)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        average = optim.average(state.ema, trainable, ema, state.step)
        kept = jax.tree.map(
            lambda new, old: jnp.where(trouble == 0, new, old),
            (state.step + 1, trainable, average, opt_state),
            (state.step, state.trainable, state.ema, state.opt_state),
        )
        step, trainable, average, opt_state = kept
        metrics = {**terms, health.NORM: jnp.sqrt(squared.sum()), health.MARK: trouble}
        return TrainState(step, trainable, state.frozen, average, opt_state, trouble), metrics

    return step
