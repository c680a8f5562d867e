"""The optimizer: AdamW, a cosine schedule with linear warm-up, and learning-rate factors by parameter group."""

import fnmatch
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

# Parameters that a stage never trains, and those that (stage, model.restoration) trains whatever `optim.frozen` says.
ALWAYS_FROZEN = {"heads": ("degradation_encoder/*", "restoration/*", "quality_encoder/backbone/*")}
ALWAYS_TRAINED = {("finetune", "finetune"): ("restoration/*",)}


def schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up over the share `warmup`, then cosine decay to `final` of the peak."""
    warmup = max(1, round(config.warmup * steps))
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, max(steps, warmup + 1), config.lr * config.final)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a parameter's path matches a pattern."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def is_trained(config: ConfigDict, path: str) -> bool:
    """Whether a run with the whole configuration `config` trains a parameter."""
    trained = matches(path, ALWAYS_TRAINED.get((config.stage, config.model.restoration), ()))
    frozen = matches(path, ALWAYS_FROZEN.get(config.stage, ()))
    return not frozen and (trained or not matches(path, config.optim.frozen))


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW on flat parameters `{path: array}`; weight decay applies to kernels only."""

    def factor(path):
        return next((rate for pattern, rate in config.groups if fnmatch.fnmatchcase(path, pattern)), 1.0)

    def by_group(updates, params=None):
        del params
        return {path: update * factor(path) for path, update in updates.items()}

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params)),
        optax.stateless(by_group),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def average(ema: dict, new: dict, decay: float, step: jax.Array) -> dict:
    """Exponential moving average; the decay starts small so that the initial values are forgotten."""
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, value: old + rate * (value - old), ema, new)
