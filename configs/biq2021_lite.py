"""Stage 2 of `lite` on BIQ2021: human scores teach E_q, the interaction and the predictor.

driqa train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/restore_lite_more --workdir runs/biq2021_lite

The validation fold (a tenth of the official training split, near-neighbour clusters kept whole) is not trained on.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.batch_size = 16
    config.epochs = 2.5
    config.optim.lr = 5e-4
    config.optim.ema = 0.998
    config.loss.plcc = 0.5
    config.eval_every = 703
    return config
