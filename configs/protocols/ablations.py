"""Ablations on BIQ2021: eight rows with three splits each, on cached features.

driqa protocol --config configs/protocols/ablations.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_ablations

The splits are drawn within the official training split with near duplicates on one side; official test images are not
used. The ImageNet backbone, the degradation encoder and the restorer are frozen; the rows differ in the trained layers
above them. Each image is encoded once, at 224 rows with one tile of 224. The features, about 240 kB per image, are
cached under config.base.cache.folder; the row with a random restorer adds a tenth of that.

Other rows: configs/protocols/ablations_more.py; trained on pixels: configs/protocols/ablations_pixels.py.
"""

from driqa_jax.protocol.config import default

ROWS = {
    "full": {},
    "no restoration": {"model.restoration": "none"},
    "random restoration": {"model.restoration": "random_frozen"},
    "no degradation vector": {"model.degradation": "none"},
    "shuffled degradation vector": {"model.degradation": "shuffled"},
    "concatenation": {"model.interaction": "concat"},
    "no RS loss": {"loss.rs": "none"},
    "backbone and head": {"model.baseline": True, "loss.rs": "none"},
}


def get_config(rows=ROWS):
    config = default(rows=rows)
    base = config.base
    base.stage = "heads"
    base.view.short, base.view.canvas = 224, (224, 224)
    base.batch_size, base.epochs = 32, 2.0
    base.optim.lr, base.optim.ema, base.loss.plcc = 1e-3, 0.995, 0.5
    config.splits.kind, config.splits.numbers, config.splits.of = "hash", (0, 1, 2), "train"
    config.checkpoints = ("last",)
    return config
