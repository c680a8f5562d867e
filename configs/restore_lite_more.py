"""Stage 1 of `lite`, its second half: R goes on with what it learns last, blur and JPEG.

driqa train --config configs/restore_lite_more.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/restore_lite --workdir runs/restore_lite_more
"""

import pathlib
import runpy

# Half of the pictures are blurred or JPEG; the noises, learned first, and the rest keep a share.
NOISE = ("white_noise", "white_noise_color_component", "multiplicative_noise", "sensor_noise")
BLUR = ("gaussian_blur", "lens_blur", "motion_blur")
WEIGHTS = {**dict.fromkeys(NOISE, 5.0), **dict.fromkeys(BLUR, 12.0), "jpeg": 20.0, "double_jpeg": 5.0}


def get_config():
    config = runpy.run_path(pathlib.Path(__file__).with_name("restore_lite.py"))["get_config"]()
    config.pretrain.recipe.mixture = (("single", 1.0),)
    config.pretrain.recipe.weights = tuple(WEIGHTS.items())
    config.steps = 3500
    config.optim.lr = 7e-4
    return config
