"""The stages that the loop can run: pretraining, fine-tuning, and fine-tuning on kept features."""

from collections.abc import Callable
from typing import NamedTuple

from driqa_jax.train import initialization, validation
from driqa_jax.train.stages import finetune, frozen_features, pretrain


class Stage(NamedTuple):
    """A stage of the training.

    params: (config, model, source) -> nested initial parameters.
    batches: (config, source, start_step, process_index, process_count) -> endless iterator of batches.
    make_loss: (config, model) -> the loss, a `step.Loss`.
    validate: (config, model, mesh) -> (params, source) -> metrics by name.
    predict: (config, model, mesh) -> (params, source) -> predicted and true MOS, (N,) float64 each, in the source's
      order; None for a stage that predicts no MOS.
    """

    params: Callable
    batches: Callable
    make_loss: Callable
    validate: Callable
    predict: Callable | None


STAGES = {
    "pretrain": Stage(
        initialization.pretraining_params,
        pretrain.batches,
        pretrain.make_loss,
        validation.pretraining,
        predict=None,
    ),
    "finetune": Stage(
        initialization.finetuning_params,
        finetune.batches,
        finetune.make_loss,
        validation.agreement(validation.predict),
        validation.predict,
    ),
    "heads": Stage(
        frozen_features.params,
        frozen_features.batches,
        frozen_features.make_loss,
        validation.agreement(frozen_features.predict),
        frozen_features.predict,
    ),
}
