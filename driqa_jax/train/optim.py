"""The optimizer: AdamW, cosine after a linear warm-up, a learning rate for each group of parameters."""

import fnmatch

import jax
import ml_collections
import optax


def schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear up over `warmup` of the run, cosine down to `final` of the peak."""
    warmup = max(1, round(config.warmup * steps))
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, max(steps, warmup + 1), config.lr * config.final)


def is_frozen(config: ml_collections.ConfigDict, path: str) -> bool:
    """Whether a parameter stays as it is: its path fits one of the patterns of `config.frozen`."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in config.frozen)


# What a stage never moves, and what the ablation `model.restoration` moves in stage 2 whatever `optim.frozen` says.
STANDING = {"heads": ("degradation_encoder/*", "restoration/*", "quality_encoder/backbone/*")}
MOVING = {("finetune", "finetune"): ("restoration/*",)}


def is_trained(config: ml_collections.ConfigDict, path: str) -> bool:
    """Whether a run of the whole `config` moves a parameter."""

    def fits(patterns):
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    moving = MOVING.get((config.stage, config.model.restoration), ())
    return not fits(STANDING.get(config.stage, ())) and (fits(moving) or not is_frozen(config.optim, path))


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW on flat parameters `{path: array}`; weight decay on kernels alone."""

    def factor(path):
        return next((rate for pattern, rate in config.groups if fnmatch.fnmatchcase(path, pattern)), 1.0)

    def by_group(updates, params=None):
        del params
        return {path: update * factor(path) for path, update in updates.items()}

    def decayed(params):
        return {path: value.ndim > 1 for path, value in params.items()}

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.stateless(by_group),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def average(ema: dict, new: dict, decay: float, step: jax.Array) -> dict:
    """Exponential moving average, its decay smaller at first so that the start is forgotten."""
    rate = 1.0 - jax.numpy.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, value: old + rate * (value - old), ema, new)
