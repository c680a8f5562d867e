"""Images a second of the stage 2 step, with the depthwise convolution's own backward pass and with JAX's.

    driqa bench step --batch 8 --side 224

Both are timed in one run, turn by turn, so that what else the machine does meets both; the median counts,
compilation does not. One device, frozen parts and losses as in the default configuration.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from unittest import mock

import jax
import numpy as np

from driqa_jax import parallel
from driqa_jax.models import efficientnet, restoration
from driqa_jax.models.depthwise import depthwise_conv, shifted_conv
from driqa_jax.models.driqa import build_model
from driqa_jax.scoring.cache import enable_compile_cache
from driqa_jax.train import finetune, initial, optim, rng, state
from driqa_jax.train.config import default
from driqa_jax.train.steps import make_step

BACKWARD = {"custom_vjp": depthwise_conv, "automatic": shifted_conv}
STEPS = 1000  # of the schedule; the time of a step does not depend on it


def measure(batch: int = 8, side: int = 224, repeats: int = 9) -> dict[str, float]:
    """Median seconds of a step for each backward pass; `whole` of side x side and one tile of the same."""
    config = initial.with_model(default())
    model = build_model(config.model)
    mesh = parallel.make_mesh(jax.devices()[:1])
    params = jax.jit(lambda: model.init(rng.stream(0, "init"), *finetune.example(config)))()["params"]
    params["quality_encoder"]["backbone"] = efficientnet.imagenet_weights()[0]
    params = jax.tree.map(np.array, params)  # on the host: a step gives away the state that it is given
    optimizer = optim.make_optimizer(config.optim, STEPS)
    views = parallel.place_batch(_batch(batch, side), mesh)

    def compiled(conv):
        run = state.create(params, lambda path: not optim.is_frozen(config.optim, path), optimizer)
        step = make_step(finetune.make_loss(config, model), optimizer, config.optim.ema)
        with (
            mock.patch.object(efficientnet, "depthwise_conv", conv),
            mock.patch.object(restoration, "depthwise_conv", conv),
        ):
            advance = parallel.map_step(step, mesh)
            run, _ = jax.block_until_ready(advance(parallel.replicate(run, mesh), views))
        return advance, run

    programs = {name: compiled(conv) for name, conv in BACKWARD.items()}
    seconds = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (advance, run) in programs.items():
            start = time.perf_counter()
            run, _ = jax.block_until_ready(advance(run, views))
            seconds[name].append(time.perf_counter() - start)
            programs[name] = advance, run
    return {name: statistics.median(times) for name, times in seconds.items()}


def _batch(batch: int, side: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    mos = draw.random(batch).astype(np.float32)
    return {
        "whole": draw.integers(0, 256, (batch, side, side, 3), dtype=np.uint8),
        "valid": np.full((batch, 2), side, np.int32),
        "tiles": draw.integers(0, 256, (batch, 1, side, side, 3), dtype=np.uint8),
        "tile_boxes": np.tile(np.float32([[[0, 0, 1, 1]]]), (batch, 1, 1)),
        "mos": mos,
        "percentile": mos,
        "dataset": np.zeros(batch, np.int32),
        "index": np.arange(batch, dtype=np.int32),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(
        prog="driqa bench step", description="Images a second of the lite stage 2 step.", allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=224, help="of the whole picture and of its one tile")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    enable_compile_cache()
    device = jax.devices()[0]
    before = os.getloadavg()[0]
    found = measure(args.batch, args.side, args.repeats)
    print(f"lite, stage 2 step, {args.side}x{args.side}, batch {args.batch}, median of {args.repeats}")
    print(f"{device.device_kind}, {os.cpu_count()} cores, jax {jax.__version__}, load before: {before:.1f}")
    for name, seconds in found.items():
        print(f"  {name:10}  {args.batch / seconds:6.1f} images/s  {1e3 * seconds:7.0f} ms a step")
    return 0
