"""The auxiliary losses of stage 2, on images that are made from the batch and have no human score.

`rs_terms.py` beside them chooses the RS loss, which compares representations of the batch itself.

To add one, write a file like `ranking.py` and add it to `AUXILIARY` under the key of its weight in `config.loss`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from driqa_jax import losses
from driqa_jax.train.auxiliary import consistency, ranking


class AuxiliaryLoss(NamedTuple):
    """A loss on extra images of a batch.

    views: (config, view rule, batch, step) -> the model's inputs for the extra images and the `index` of each.
    read: (config, mos of the batch (B,), mos of the extra images) -> two arrays (P,) to compare.
    compare: (these arrays, gathered over the global batch) -> the loss, a scalar.
    group_size: (config) -> how many consecutive examples one pair is made from.
    require_valid: (config) -> None; raises UserError for invalid settings.
    """

    views: Callable
    read: Callable
    compare: Callable
    group_size: Callable[[ConfigDict], int]
    require_valid: Callable[[ConfigDict], None] = lambda config: None


AUXILIARY: dict[str, AuxiliaryLoss] = {
    "rank": AuxiliaryLoss(
        ranking.views, ranking.read, losses.rank_hinge, lambda config: config.rank.every, ranking.require_valid
    ),
    "same": AuxiliaryLoss(consistency.views, consistency.read, losses.mos_l1, lambda config: config.twins.every),
}


def active(config: ConfigDict) -> dict[str, AuxiliaryLoss]:
    """The auxiliary losses whose weight is not 0."""
    return {name: loss for name, loss in AUXILIARY.items() if config.loss[name]}


def read_group_size(config: ConfigDict) -> int:
    """How many consecutive examples stage 2 must read together."""
    return math.lcm(1, *(loss.group_size(config) for loss in active(config).values()))


def group_size(config: ConfigDict) -> int:
    """How many consecutive examples of a batch one device must hold, over all `config.accumulate` parts."""
    sizes = {"pretrain": config.pretrain.block or 1, "finetune": read_group_size(config)}
    return sizes.get(config.stage, 1) * config.accumulate
