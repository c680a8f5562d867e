"""A whole protocol on generated pictures: two rows, two splits, another set. Does everything run here?

driqa protocol --config configs/protocols/smoke.py --workdir /tmp/protocol

A few minutes on two CPU cores, nearly all of it compilation (once: programs are cached). What it learns is of no use.
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
