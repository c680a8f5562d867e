"""The optimizer, its schedule and the average of parameters, against numpy."""

import jax
import ml_collections
import numpy as np
import optax
import pytest

from driqa_jax.train import optim
from driqa_jax.train.config import default

STEPS = 40


def configured(**changes):
    config = default().optim
    config.groups = (("slow/head/*", 0.5), ("slow/*", 0.1))
    config.frozen = ("still/*", "slow/stage[12]_*", "slow/*/scale")
    config.update_from_flattened_dict(changes)
    return ml_collections.FrozenConfigDict(config)


def rate(config, step, steps=STEPS):
    """Linear up to the peak, half a cosine down to `final` of it."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * step / warmup
    done = min((step - warmup) / (steps - warmup), 1.0)
    return config.lr * (config.final + (1 - config.final) * 0.5 * (1 + np.cos(np.pi * done)))


@pytest.mark.parametrize("warmup", [0.05, 0.25, 0.0])
def test_schedule_warms_up_linearly_and_falls_as_a_cosine(warmup):
    config = configured(warmup=warmup)
    schedule = optim.schedule(config, STEPS)
    found = [float(schedule(step)) for step in range(STEPS + 3)]
    np.testing.assert_allclose(found, [rate(config, step) for step in range(STEPS + 3)], rtol=1e-5, atol=1e-12)
    assert max(found) == pytest.approx(config.lr) and found[STEPS] == pytest.approx(config.lr * config.final)


@pytest.mark.parametrize("steps", [1, 2])
def test_schedule_of_the_shortest_runs_is_finite(steps):
    schedule = optim.schedule(configured(), steps)
    assert np.isfinite([float(schedule(step)) for step in range(steps + 1)]).all()


PARAMS = {
    "slow/head/kernel": (3, 4),
    "slow/body/kernel": (4, 2),
    "slow/body/bias": (2,),
    "predictor/kernel": (2, 3),
    "predictor/bias": (3,),
}
FACTOR = {"slow/head/kernel": 0.5, "slow/body/kernel": 0.1, "slow/body/bias": 0.1}


@pytest.mark.parametrize("clip", [1e9, 0.5])
def test_updates_are_those_of_adamw_with_groups_and_decay_on_kernels_alone(clip):
    config = configured(clip=clip, weight_decay=0.3, lr=0.05)
    rng = np.random.default_rng(0)
    params = {path: rng.standard_normal(shape).astype(np.float32) for path, shape in PARAMS.items()}
    optimizer = optim.make_optimizer(config, STEPS)
    state, ours = optimizer.init(params), dict(params)
    oracle = {path: value.astype(np.float64) for path, value in params.items()}
    first = {path: np.zeros(shape) for path, shape in PARAMS.items()}
    second = {path: np.zeros(shape) for path, shape in PARAMS.items()}
    update = jax.jit(optimizer.update)
    for step in range(5):
        grads = {path: rng.standard_normal(shape).astype(np.float32) for path, shape in PARAMS.items()}
        updates, state = update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
        for path, g in grads.items():
            g = g * min(1.0, clip / norm)
            first[path] = 0.9 * first[path] + 0.1 * g
            second[path] = 0.999 * second[path] + 0.001 * g**2
            mean, spread = first[path] / (1 - 0.9 ** (step + 1)), second[path] / (1 - 0.999 ** (step + 1))
            move = mean / (np.sqrt(spread) + 1e-8)
            if path.endswith("kernel"):
                move = move + 0.3 * oracle[path]
            oracle[path] = oracle[path] - rate(config, step) * FACTOR.get(path, 1.0) * move
    for path in PARAMS:
        np.testing.assert_allclose(ours[path], oracle[path], rtol=2e-5, atol=1e-6, err_msg=path)
        assert np.abs(oracle[path] - params[path]).max() > 1e-4


def test_frozen_is_what_fits_a_pattern():
    config = configured()
    frozen = (
        "still/a/kernel",
        "slow/stage1_block1/expand/kernel",
        "slow/stage2_block2/x",
        "slow/stage5_block1/expand/scale",
    )
    assert all(optim.matches(path, config.frozen) for path in frozen)
    moving = ("predictor/kernel", "slow/stage4_block1/expand/kernel", "slow/stage12_block1/kernel", "a/still/kernel")
    assert not any(optim.matches(path, config.frozen) for path in moving)


def test_the_average_is_that_of_numpy_and_forgets_the_start():
    rng, decay = np.random.default_rng(1), 0.9
    ema = expected = {"w": rng.standard_normal(4).astype(np.float32)}
    step_of = jax.jit(lambda ema, new, step: optim.average(ema, new, decay, step))
    for step in range(150):
        new = {"w": rng.standard_normal(4).astype(np.float32)}
        ema = step_of(ema, new, np.int32(step))
        now = min(decay, (1 + step) / (10 + step))
        expected = {"w": now * expected["w"].astype(np.float64) + (1 - now) * new["w"]}
        if step == 0:
            np.testing.assert_allclose(ema["w"], expected["w"], rtol=1e-6)
    np.testing.assert_allclose(ema["w"], expected["w"], rtol=1e-5, atol=1e-6)
