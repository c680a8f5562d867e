"""Stage 2 of `lite` on BIQ2021: train the quality encoder, interaction and predictor on human scores.

driqa train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/restore_lite_more --workdir runs/biq2021_lite

A quarter of each batch gives rank pairs; without them the score rewarded sharpening. Half of the photos are slightly
reduced first; without that a resize to .9 changed the score by five points.

The validation fold is a tenth of the official training split. Clusters of near duplicates stay on one side.
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
