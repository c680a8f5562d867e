"""A stage 2 step to measure, with new parameters and synthetic images, on which its time does not depend."""

import jax
import ml_collections
import numpy as np

from driqa_jax.checkpoints import manager
from driqa_jax.checkpoints.load import example_inputs
from driqa_jax.data.perturbed_pairs import PREFIX
from driqa_jax.distributed import map_step, place_batch, replicate
from driqa_jax.models.driqa import build_model
from driqa_jax.train import optim, rng
from driqa_jax.train.auxiliary import consistency
from driqa_jax.train.stages import finetune
from driqa_jax.train.step import make_step

STEPS = 1000  # of the schedule; the time of a step does not depend on it


def fresh_params(config: ml_collections.ConfigDict) -> dict:
    """New parameters on the host, because a step donates its state."""
    model = build_model(config.model)
    made = jax.jit(lambda: model.init(rng.stream(0, "init"), *example_inputs()))()["params"]
    return jax.tree.map(np.array, made)


def fresh_step(config: ml_collections.ConfigDict, params: dict, mesh, batch: dict[str, np.ndarray]):
    """The step of the loop, not yet compiled, a state with `params`, and the batch on the devices."""
    optimizer = optim.make_optimizer(config.optim, STEPS)
    run = manager.create(params, lambda path: optim.is_trained(config, path), optimizer)
    loss = finetune.make_loss(config, build_model(config.model, config.remat))
    step = make_step(loss, optimizer, config.optim.ema, config.compute, config.accumulate)
    return map_step(step, mesh), replicate(run, mesh), place_batch(batch, mesh)


def synthetic_batch(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """`config.batch_size` images of noise with random scores in the configured view, and their twins if any."""
    view, count, draw = config.view, config.batch_size, np.random.default_rng(0)
    mos = draw.random(count).astype(np.float32)
    views = {
        "whole": draw.integers(0, 256, (count, *view.canvas, 3), dtype=np.uint8),
        "valid": np.tile(np.int32([view.canvas]), (count, 1)),
        "tiles": draw.integers(0, 256, (count, view.tiles, view.tile, view.tile, 3), dtype=np.uint8),
        "tile_boxes": np.tile(np.float32([0, 0, 1, 1]), (count, view.tiles, 1)),
    }
    twins = consistency.configured_twins(config)
    return {
        **views,
        **({PREFIX + name: x[:: twins.every] for name, x in views.items()} if twins else {}),
        "mos": mos,
        "percentile": mos,
        "dataset": np.zeros(count, np.int32),
        "index": np.arange(count, dtype=np.int32),
    }
