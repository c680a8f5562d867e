"""How many neighbouring examples of a batch one device takes together, at one time."""

import ml_collections

from driqa_jax.train import finetune


def neighbours(config: ml_collections.ConfigDict) -> int:
    """Of the configured stage: a block of a pretraining, what makes rank pairs and twins in stage 2; 1 where none."""
    if config.stage == "pretrain":
        return config.pretrain.block or 1
    return finetune.neighbours(config) * config.accumulate if config.stage == "finetune" else 1
