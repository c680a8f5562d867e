"""What the loop needs to know of a stage; the two of the method, the second also on kept features."""

from collections.abc import Callable
from typing import NamedTuple

from driqa_jax.train import finetune, heads, initial, pretrain, validate


class Stage(NamedTuple):
    """A stage of the training.

    params: (config, model, source) -> nested parameters to start from.
    batches: (config, source, start_step, process_index, process_count) -> endless iterator of batches.
    make_loss: (config, model) -> loss(params, batch, step), see `steps`.
    validate: (config, model, mesh) -> run(params, source) -> dictionary of numbers.
    predict: (config, model, mesh) -> run(params, source) -> predicted MOS (N,) and the source's own (N,), float64, in
      the source's order; None for a stage that predicts none.
    """

    params: Callable
    batches: Callable
    make_loss: Callable
    validate: Callable
    predict: Callable | None


STAGES = {
    "pretrain": Stage(
        initial.pretraining_params,
        pretrain.batches,
        pretrain.make_loss,
        validate.pretraining,
        predict=None,
    ),
    "finetune": Stage(
        initial.finetuning_params,
        finetune.batches,
        finetune.make_loss,
        validate.agreement(validate.predict),
        validate.predict,
    ),
    "heads": Stage(heads.params, heads.batches, heads.make_loss, validate.agreement(heads.predict), heads.predict),
}
