"""A complete protocol on generated images, to test the installation: two rows, two splits, another data set.

driqa protocol --config configs/protocols/smoke.py --workdir /tmp/protocol

It takes a few minutes on two CPU cores, nearly all of it compilation, which is cached. The model is useless.
"""

from driqa_jax.protocol.config import default


def get_config():
    config = default(
        rows={"full": {}, "no RS loss": {"loss.rs_weight": 0.0}},
        across={"other": {"kind": "fake", "fake_count": 20, "height": 96, "canvas": (64, 64)}},
    )
    config.base.data.kind, config.base.data.fake_count = "fake", 40
    config.base.view.short, config.base.view.canvas, config.base.view.tile = 64, (64, 64), 64
    config.base.batch_size, config.base.steps, config.base.log_every, config.base.eval_every = 8, 6, 2, 3
    config.splits.kind, config.splits.numbers = "hash", (0, 1)
    config.bootstrap = 200
    return config
