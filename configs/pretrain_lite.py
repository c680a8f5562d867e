"""Stages 0+1 of `lite`: E_d and R from pristine photographs, degraded on the device.

driqa train --config configs/pretrain_lite.py --config.data.path=BIQ2021/tfds --workdir runs/pretrain_lite

The photographs are BIQ2021 training pictures of MOS >= .8, halved in size (they are JPEG quality 75).
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.min_mos = 0.8
    config.data.halve = True
    config.batch_size = 4
    config.steps = 1600
    config.optim.lr = 5e-4
    config.optim.weight_decay = 1e-4
    config.optim.frozen = ()
    return config
