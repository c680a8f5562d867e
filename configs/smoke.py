"""A complete stage 2 on generated images, to test the installation.

driqa train --config configs/smoke.py --workdir /tmp/smoke

It takes a minute and a half on two CPU cores, nearly all of it compilation, which is cached. The model is useless.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.data.kind = "fake"
    config.data.train = "train/fit"
    config.data.val = "train/val"
    config.view.short = 64
    config.view.canvas = (64, 64)
    config.view.tile = 64
    config.batch_size = 8
    config.steps = 6
    config.log_every = 2
    return config
