"""Stage 2 of `lite` on BIQ2021, continued: two and a half more epochs with other crops of the same images.

driqa train --config configs/biq2021_lite_more.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/biq2021_lite --workdir runs/biq2021_lite_more

After two epochs the validation result still improved, and the training error was only slightly below the validation
error. Color shift and diffusion, which were ranked worst, are drawn more often in rank pairs. The RS loss has less
weight, because it does not help on a held-out source of BIQ2021 (docs/PROTOCOL_RESULTS.md). Half of the photos are
re-encoded at invisible loss to make the score stable under encoding; it did not, so omit it in later runs.
"""

import pathlib
import runpy


def get_config():
    config = runpy.run_path(pathlib.Path(__file__).with_name("biq2021_lite.py"))["get_config"]()
    config.seed = 1
    config.epochs = 2.5
    config.view.quality = 90
    config.loss.rs_weight = 0.03
    config.rank.often = (("color_shift", 4), ("color_diffusion", 2))
    return config
