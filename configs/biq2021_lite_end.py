"""Another end of stage 2 of `lite`, tried and not in the bundled model: what a person does not see shall not count.

driqa train --config configs/biq2021_lite_end.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/biq2021_lite --workdir runs/biq2021_lite_end

Twins (a photo resized a little or encoded again) shall score the same. Rank pairs are twice as many and weigh twice as
much as before, and types that were still ranked badly are drawn more often. It trades: colours that shift or spread are
ordered better, a flip, a few pixels, a resize move the score less, and the SRCC on BIQ2021 hardly moves; but on AVT,
which nothing here learned from, enlarged pictures score too high beside compressed ones, and the SRCC falls. Twins that
differ by less (shrink .9, quality 92) give some of that back, and the steadiness under JPEG with it.
"""

import pathlib
import runpy


def get_config():
    config = runpy.run_path(pathlib.Path(__file__).with_name("biq2021_lite.py"))["get_config"]()
    config.epochs = 1.0
    config.optim.lr = 2.5e-4
    config.optim.ema = 0.995
    config.loss.aux = 0.0
    config.loss.rank = 0.6
    config.rank.every = 2
    config.rank.often = (("color_shift", 6), ("color_diffusion", 3), ("halo", 4), ("over_smoothing", 4))
    config.loss.same = 1.2
    config.eval_every = 0
    return config
