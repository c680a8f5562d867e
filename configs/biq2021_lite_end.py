"""A further end of stage 2 of `lite`, which is not in the bundled model: what a person does not see shall not count.

driqa train --config configs/biq2021_lite_end.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/biq2021_lite --workdir runs/biq2021_lite_end

Twins (a photo resized a little or encoded again) shall score the same; rank pairs weigh twice as much as before, and
types that were still ranked badly are drawn more often. It trades: a resize moves the score less, but with the weights
raised further (rank .8, same 1.5, shifts of colour six times) the pristine stood less often above the badly restored.
"""

import pathlib
import runpy


def get_config():
    config = runpy.run_path(pathlib.Path(__file__).with_name("biq2021_lite.py"))["get_config"]()
    config.epochs = 0.75
    config.optim.lr = 2.5e-4
    config.optim.ema = 0.995
    config.loss.aux = 0.0
    config.loss.rank = 0.6
    config.rank.often = (("color_shift", 4), ("color_diffusion", 3), ("halo", 3))
    config.loss.same = 1.0
    config.eval_every = 0
    return config
