"""Stage 0 of `lite`: the degradation encoder, on pristine photographs with all degradations applied on the device.

driqa train --config configs/pretrain_lite.py --config.data.path=BIQ2021/tfds --workdir runs/pretrain_lite

`configs/restore_lite.py` then trains the restorer. The photographs are BIQ2021 training images with MOS >= .8, halved
in size because they are JPEG quality 75.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.min_mos = 0.8
    config.data.halve = True
    # 256 images per step: blocks of 4 photographs, 16 chains per block. The degradation encoder needs many chains; the
    # restorer, whose step costs many times as much, is trained separately.
    config.batch_size = 16
    config.pretrain.block = 4
    config.pretrain.chains = 16
    config.pretrain.restored = 0.0
    config.pretrain.crop = 96  # in the same time 1.8 times as many images as at 128, and better naming
    config.pretrain.recipe.mixture = (("single", 0.75), ("chains", 0.2), ("second_order", 0.05))
    # The main targets of restoration are drawn twice as often.
    likely = ("gaussian_blur", "lens_blur", "motion_blur", "white_noise", "sensor_noise", "jpeg")
    config.pretrain.recipe.weights = tuple((name, 2.0) for name in likely)
    config.steps = 600
    config.optim.lr = 2e-3
    config.optim.weight_decay = 1e-4
    config.optim.groups = ()
    config.optim.frozen = ("*/standardize_*", "restoration/*")
    # Naming is a mean over all types. With the weight of severity its gradient is a fifth of severity's, which is
    # noisier, and most types are not learned.
    config.loss.naming = 20.0
    return config
