"""Images per second of the stage 2 step, with the custom and the automatic depthwise backward pass.

    python -m benchmarks step --batch 8 --side 224

Both are timed alternately in one run, so that other load on the machine affects both. The result is the median,
without compilation, on one device, with the frozen parts and losses of the default configuration.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from unittest import mock

import jax
import ml_collections

from benchmarks.stage2 import fresh_params, fresh_step, synthetic_batch
from driqa_jax import distributed
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.models import efficientnet, restoration
from driqa_jax.models.ops import depthwise_conv
from driqa_jax.train import initialization
from driqa_jax.train.config import default

# The undecorated function has JAX's automatic backward pass.
BACKWARD = {"custom_vjp": depthwise_conv, "automatic": depthwise_conv.__wrapped__}


def measure(batch: int = 8, side: int = 224, repeats: int = 9) -> dict[str, float]:
    """Median seconds of a step for each backward pass; whole image and its one tile are side x side."""
    config = ml_collections.ConfigDict(initialization.with_model(default()).to_dict())
    config.batch_size, config.view.canvas, config.view.tile = batch, (side, side), side
    mesh = distributed.make_mesh(jax.devices()[:1])
    params, views = fresh_params(config), synthetic_batch(config)

    def compiled(conv):
        train_step, run, placed = fresh_step(config, params, mesh, views)
        with (
            mock.patch.object(efficientnet, "depthwise_conv", conv),
            mock.patch.object(restoration, "depthwise_conv", conv),
        ):
            run, _ = jax.block_until_ready(train_step(run, placed))
        return train_step, run, placed

    programs = {name: compiled(conv) for name, conv in BACKWARD.items()}
    seconds = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (train_step, run, placed) in programs.items():
            start = time.perf_counter()
            run, _ = jax.block_until_ready(train_step(run, placed))
            seconds[name].append(time.perf_counter() - start)
            programs[name] = train_step, run, placed
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks step", description="Images per second of the lite stage 2 step.", allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=224, help="side of the whole image and of its one tile")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    enable_compile_cache()
    device = jax.devices()[0]
    before = os.getloadavg()[0]
    results = measure(args.batch, args.side, args.repeats)
    print(f"lite, stage 2 step, {args.side}x{args.side}, batch {args.batch}, median of {args.repeats}")
    print(f"{device.device_kind}, {os.cpu_count()} cores, jax {jax.__version__}, load before: {before:.1f}")
    for name, seconds in results.items():
        print(f"  {name:10}  {args.batch / seconds:6.1f} images/s  {1e3 * seconds:7.0f} ms a step")
    return 0
