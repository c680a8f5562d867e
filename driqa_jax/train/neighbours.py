"""How many neighbouring examples of a batch one device takes together."""

import ml_collections

from driqa_jax.train.stages import finetune


def neighbours(config: ml_collections.ConfigDict) -> int:
    """In all parts that it reads: blocks of a pretraining, what makes pairs and twins in stage 2, or single ones."""
    together = {"pretrain": config.pretrain.block or 1, "finetune": finetune.neighbours(config)}
    return together.get(config.stage, 1) * config.accumulate
