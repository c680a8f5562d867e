"""Stages 0+1 of `s`: degradation encoder and restorer, on pristine photographs degraded on the device.

driqa train --config configs/pretrain_s.py --config.data.path=BIQ2021/tfds --workdir runs/pretrain_s

The recipe of `lite` with larger crops and batches, for one GPU; --config.model.variant=b trains those of `b`. No
complete run has been made yet. The photographs are BIQ2021 training images with MOS >= .8, halved in size.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.stage = "pretrain"
    config.model.variant = "s"
    config.data.min_mos = 0.8
    config.data.halve = True
    config.data.threads = 8
    # 128 images per step: 64 chains with two photographs each, four chains per photograph.
    config.batch_size = 32
    config.pretrain.block = 2
    config.pretrain.chains = 4
    config.pretrain.restored = 0.5
    config.pretrain.crop = 128
    config.pretrain.recipe.mixture = (("single", 0.75), ("chains", 0.2), ("second_order", 0.05))
    likely = ("gaussian_blur", "lens_blur", "motion_blur", "white_noise", "sensor_noise", "jpeg")
    config.pretrain.recipe.weights = tuple((name, 2.0) for name in likely)
    config.steps = 30000
    config.optim.lr = 1e-3
    config.optim.weight_decay = 1e-4
    config.optim.groups = (("restoration/*", 0.5),)
    config.optim.frozen = ("*/standardize_*",)
    config.loss.naming = 20.0
    return config
