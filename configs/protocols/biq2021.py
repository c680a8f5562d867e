"""Stage 2 of `lite` on the official split of BIQ2021, with three seeds.

driqa protocol --config configs/protocols/biq2021.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite_more --workdir protocol_biq2021

Each run is configs/biq2021_lite.py; the seed selects its validation fold within the official training split. The table
also has the "novel" test images, which show no scene of the training split.
"""

from driqa_jax.protocol.config import default


def get_config():
    config = default(rows={"lite": {}})
    base = config.base
    base.batch_size, base.epochs, base.eval_every = 16, 2.5, 351
    base.optim.lr, base.optim.ema, base.loss.plcc = 5e-4, 0.998, 0.5
    config.seeds = (0, 1, 2)
    return config
