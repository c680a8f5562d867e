"""Stage 2 of `lite` on BIQ2021.

driqa train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/pretrain_lite --workdir runs/biq2021_lite
"""

from driqa_jax.train.config import default


def get_config():
    return default()
