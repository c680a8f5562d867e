"""BIQ2021's official split, three seeds: stage 2 of `lite`, trained and tested.

driqa protocol --config configs/protocols/biq2021.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite_more --workdir protocol_biq2021

Each run is configs/biq2021_lite.py, its validation fold taken out of the official training split by the seed. Beside
the whole test split stand its "novel" pictures, those that show no scene of the training split.
"""

from driqa_jax.protocol.config import default


def get_config():
    config = default(rows={"lite": {}})
    base = config.base
    base.batch_size, base.epochs, base.eval_every = 16, 2.5, 351
    base.optim.lr, base.optim.ema, base.loss.plcc = 5e-4, 0.998, 0.5
    config.seeds = (0, 1, 2)
    return config
