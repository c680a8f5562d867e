"""The end of stage 2 of `lite`: the order of what a person sees, and no more of what a person does not.

driqa train --config configs/biq2021_lite_end.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/biq2021_lite --workdir runs/biq2021_lite_end

Twins (a photo resized a little or encoded again) shall score the same; rank pairs weigh more than before, and types
that were still ranked badly are drawn more often.
"""

import pathlib
import runpy


def get_config():
    config = runpy.run_path(pathlib.Path(__file__).with_name("biq2021_lite.py"))["get_config"]()
    config.epochs = 0.75
    config.optim.lr = 2.5e-4
    config.optim.ema = 0.995
    config.loss.aux = 0.0
    config.loss.rank = 0.8
    config.rank.often = (("color_shift", 6), ("color_diffusion", 4), ("over_smoothing", 3), ("halo", 2))
    config.loss.same = 1.5
    config.eval_every = 0
    return config
