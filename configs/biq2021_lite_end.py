"""A variant of the end of stage 2 of `lite` for stability under invisible changes; not in the bundled model.

driqa train --config configs/biq2021_lite_end.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/biq2021_lite --workdir runs/biq2021_lite_end

A loss penalizes score differences between a photo and a slightly resized or re-encoded copy. Rank pairs are twice as
many with twice the weight, and badly ranked types are drawn more often. The result is a trade-off: color shift and
diffusion are ranked better, a flip, a shift of a few pixels or a resize changes the score less, and the SRCC on BIQ2021
is nearly the same; but on AVT, which is not used in training, enlarged images score too high relative to compressed
ones and the SRCC falls. Smaller differences (shrink .9, quality 92) recover part of that and lose the stability under
JPEG.
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
