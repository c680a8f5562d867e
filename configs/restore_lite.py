"""Stage 1 of `lite`: R, with the E_d that `configs/pretrain_lite.py` made, which stays as it is.

driqa train --config configs/restore_lite.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/pretrain_lite --workdir runs/restore_lite
"""

from driqa_jax.train.config import default

# What restoring is for comes more often than what only learning to name asks for.
LIKELY = {
    **dict.fromkeys(("white_noise", "white_noise_color_component", "multiplicative_noise", "sensor_noise"), 6.0),
    **dict.fromkeys(("gaussian_blur", "lens_blur", "motion_blur"), 5.0),
    **dict.fromkeys(("impulse_noise", "low_light", "resample", "double_jpeg", "jpeg2000"), 2.0),
    "jpeg": 6.0,
}


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.min_mos = 0.8
    config.data.halve = True
    # 16 pictures a step: 8 chains, two photographs under each, so that R can be given the `d` of the other.
    config.batch_size = 8
    config.pretrain.block = 2
    config.pretrain.chains = 2
    config.pretrain.crop = 96
    config.pretrain.recipe.mixture = (("single", 0.85), ("chains", 0.15))
    config.pretrain.recipe.weights = tuple(LIKELY.items())
    config.steps = 6000
    config.optim.lr = 1e-3
    config.optim.weight_decay = 1e-4
    config.optim.groups = ()
    config.optim.frozen = ("degradation_encoder/*",)
    config.loss.contrast = config.loss.naming = config.loss.severity = 0.0
    return config
