"""The ablations on BIQ2021: eight rows, three splits each, on features that are computed once.

driqa protocol --config configs/protocols/ablations.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_ablations

The splits are drawn within the official training split, near neighbours kept together: the official test pictures are
not looked at. The backbone is ImageNet's and stands still, as do E_d and R; the rows differ in what learns on top of
them. Each picture is seen once, at 224 rows and one tile of 224; what was seen, some 240 kB a picture, is kept under
config.base.cache.folder; one row, the random restorer, adds a tenth of that.

Other rows: configs/protocols/ablations_more.py, and from pixels configs/protocols/ablations_pixels.py.
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
