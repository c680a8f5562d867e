"""Stage 0 of `lite`: E_d, from pristine photographs, degraded on the device by the whole bank.

driqa train --config configs/pretrain_lite.py --config.data.path=BIQ2021/tfds --workdir runs/pretrain_lite

`configs/restore_lite.py` goes on from there with R. The photographs are BIQ2021 training pictures of MOS >= .8, halved
in size (they are JPEG quality 75).
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.min_mos = 0.8
    config.data.halve = True
    # 256 pictures a step: blocks of 4 photographs, each block under 16 chains of its own. E_d wants many chains; R,
    # whose step costs many times as much, comes by itself.
    config.batch_size = 16
    config.pretrain.block = 4
    config.pretrain.chains = 16
    config.pretrain.restored = 0.0
    config.pretrain.crop = 96  # for the same time 1.8 times the pictures of 128, and names are learned better
    config.pretrain.recipe.mixture = (("single", 0.75), ("chains", 0.2), ("second_order", 0.05))
    # What restoring is for comes twice as often.
    likely = ("gaussian_blur", "lens_blur", "motion_blur", "white_noise", "sensor_noise", "jpeg")
    config.pretrain.recipe.weights = tuple((name, 2.0) for name in likely)
    config.steps = 600
    config.optim.lr = 2e-3
    config.optim.weight_decay = 1e-4
    config.optim.groups = ()
    config.optim.frozen = ("*/standardize_*", "restoration/*")
    # Naming is a mean over all types: with the same weight as severity its gradient in E_d is a fifth of that, which is
    # the noisier, and most names are not learned.
    config.loss.naming = 20.0
    return config
