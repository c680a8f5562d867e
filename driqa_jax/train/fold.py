"""Whether the model that a run starts from has learned from the run's validation pictures."""

from collections.abc import Callable

import ml_collections
import numpy as np

from driqa_jax.checkpoints.migrations import completed
from driqa_jax.data.source import Source
from driqa_jax.data.splits import select
from driqa_jax.models.ablations import chosen
from driqa_jax.train.initialization import load


def seen_before(config: ml_collections.ConfigDict, whole: Callable[[], Source], val: Source) -> int:
    """How many pictures of `val`, a part of `whole()`, have taught `config.init` what stage 2 takes of it.

    As far as its record tells: 0 where that was a pretraining, which sees no scores, where E_d and R alone are taken,
    and for data of another name or split by another file. Raises UserError where `config.init` cannot be loaded.
    """
    if not config.init or config.stage != "finetune" or config.data.kind == "folder":
        return 0
    before = load(config.init, config.model.variant)[1]["provenance"].get("run", {})
    data = before.get("data", {})
    same = all(data.get(key, "") == config.data[key] for key in ("kind", "name", "split_file"))
    if before.get("stage", "pretrain") == "pretrain" or not same or chosen(before["model"]) != chosen(config.model):
        return 0
    try:
        learned = select(whole(), data["train"], completed(before)["data"]["fold"], data["min_mos"] or None)
    except ValueError:  # the file of the split is another one by now
        return 0
    return int(np.isin(val.column("image_id"), learned.column("image_id")).sum())
