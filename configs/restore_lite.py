"""Stage 1 of `lite`: the restorer, with the frozen degradation encoder of `configs/pretrain_lite.py`.

driqa train --config configs/restore_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/pretrain_lite --workdir runs/restore_lite
"""

from driqa_jax.train.config import default

# Draw the main targets of restoration more often, and harder ones most.
LIKELY = {
    **dict.fromkeys(("white_noise", "white_noise_color_component", "multiplicative_noise"), 4.0),
    **{"sensor_noise": 3.0, "impulse_noise": 2.0},
    **{"gaussian_blur": 6.0, "lens_blur": 8.0, "motion_blur": 12.0},
    **{"jpeg": 16.0, "double_jpeg": 3.0, "resample": 2.0},
}


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.min_mos = 0.8
    config.data.halve = True
    # 16 images per step: 8 chains with two photographs each, so the restorer can get the vector of the other one.
    config.batch_size = 8
    config.pretrain.block = 2
    config.pretrain.chains = 2
    config.pretrain.crop = 96
    # KADID-10k's levels are low; of uniform severities, half are too strong to restore.
    config.pretrain.recipe.mixture = (("kadid", 0.7), ("single", 0.3))
    config.pretrain.recipe.p_clean = 0.05
    config.pretrain.recipe.weights = tuple(LIKELY.items())
    config.steps = 10000
    config.optim.lr = 1.5e-3
    config.optim.weight_decay = 1e-4
    config.optim.groups = ()
    config.optim.frozen = ("degradation_encoder/*",)
    # All images count equally; with a plain distance the unrestorable ones would dominate.
    config.loss.restoration_distance = "psnr"
    config.loss.restoration = 0.1
    config.loss.contrast = config.loss.naming = config.loss.severity = 0.0
    return config
