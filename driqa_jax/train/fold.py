"""Whether the model that a run starts from has learned from the run's validation pictures."""

import ml_collections
import numpy as np

from driqa_jax.data.sources import Source
from driqa_jax.data.splits import select
from driqa_jax.train.initial import load


def seen_before(config: ml_collections.ConfigDict, source: Source, val: Source) -> int:
    """How many pictures of `val`, a part of the whole `source`, have taught `config.init` their human scores.

    As far as its record tells: 0 for a pretraining, which sees no scores, and for data of another name or split by
    another file. Raises UserError where `config.init` cannot be loaded.
    """
    if not config.init or config.stage == "pretrain":
        return 0
    before = load(config.init, config.model.variant)[1]["provenance"].get("run", {})
    data = before.get("data", {})
    same = all(data.get(key, "") == config.data[key] for key in ("kind", "name", "split_file"))
    if before.get("stage", "pretrain") == "pretrain" or config.data.kind == "folder" or not same:
        return 0
    learned = select(source, data["train"], before["seed"], data["min_mos"] or None)
    return int(np.isin(val.column("image_id"), learned.column("image_id")).sum())
