"""A training of the tiny model on generated pictures, for tests that run it as a command."""

from driqa_jax.degradations import NAMES
from driqa_jax.train.config import default


def get_config():
    config = default()
    config.model.types = NAMES
    config.model.variant = "tiny"
    config.data.kind, config.data.fake_count = "fake", 40
    config.view.short, config.view.canvas, config.view.tile = 64, (64, 64), 64
    config.batch_size, config.steps, config.log_every, config.eval_every = 16, 4, 1, 2
    config.loss.plcc = 0.5
    config.pretrain.crop, config.pretrain.chains = 32, 2
    with config.unlocked():
        config.pretrain.recipe.names = ("motion_blur", "white_noise", "jpeg", "brighten")
    return config
