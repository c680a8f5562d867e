"""Stage 2 of `lite` on BIQ2021: human scores teach E_q, the interaction and the predictor.

driqa train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/restore_lite_more --workdir runs/biq2021_lite

A quarter of each batch gives rank pairs, and half of the photos are made a little smaller first: without the first the
score rewarded sharpening, without the second a resize to .9 moved it by five points.

The validation fold (a tenth of the official training split, near-neighbour clusters kept whole) is not trained on.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.batch_size = 16
    config.epochs = 2.0
    config.view.shrink = 0.75
    config.optim.lr = 5e-4
    config.optim.ema = 0.998
    config.loss.plcc = 0.5
    config.loss.rank = 0.3
    config.eval_every = 562
    return config
