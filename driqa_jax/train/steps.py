"""The training step: one per-device function, whatever the stage."""

import jax
import optax

from driqa_jax import parallel
from driqa_jax.train import optim
from driqa_jax.train.state import TrainState, merge


def make_step(loss, optimizer: optax.GradientTransformation, ema: float):
    """The per-device step.

    Args:
      loss: (params, batch, step) -> (this device's share of the loss, shares of metrics); see `parallel`.
      optimizer: on flat parameters.
      ema: decay of the average.

    Returns:
      step(state, batch) -> (state, metrics), to be mapped by `parallel.map_step`.
    """

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        def of_trainable(trainable):
            return loss(merge(trainable, state.frozen), batch, state.step)

        (value, metrics), grads = jax.value_and_grad(of_trainable, has_aux=True)(state.trainable)
        grads, value, metrics = parallel.total((grads, value, metrics))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        average = optim.average(state.ema, trainable, ema, state.step)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads), **metrics}
        return TrainState(state.step + 1, trainable, state.frozen, average, opt_state), metrics

    return step
