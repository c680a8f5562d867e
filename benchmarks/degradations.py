"""Images per second of each degradation and of a recipe, and the recipe's share of a pretraining step.

    python -m benchmarks degradations --side 224 --config configs/pretrain_lite.py --json degradations.json

One run on one device measures on random images, without compilation, as medians over repeats:

- each operation: 32 images at severity .5 with a key each, as one compiled program;
- the recipe: 8 chains on 4 images each, drawn anew each time, with the images on the device;
- the share (with --config): the time of the recipe as that pretraining draws and applies it, over the time of the whole
  step; the two are timed in turns, so other load on the machine affects both;
- memory: the peak resident set of the process after the recipe, and before it; on an accelerator also the peak of the
  device. This comes first, because a peak never falls.
"""

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.options import result_file
from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.degradations import (
    DEGRADATIONS,
    NAMES,
    RECIPES,
    Mixture,
    Recipe,
    apply_chains,
    sample_chains,
)
from driqa_jax.io import write_json
from driqa_jax.models.driqa import build_model
from driqa_jax.train import initialization, optim
from driqa_jax.train.config import read
from driqa_jax.train.stages import pretrain
from driqa_jax.train.step import make_step

CHAINS, PHOTOS = 8, 4
BATCH = CHAINS * PHOTOS
SEVERITY = 0.5
STEPS = 1000  # of the schedule; it does not affect the time of a step


def in_turns(programs: Sequence[Callable[[int], object]], repeats: int) -> list[float]:
    """Median seconds of each program's `run(i)`, i from 1 to repeats; `run(0)` may compile and does not count."""
    seconds = [[] for _ in programs]
    for i in range(repeats + 1):
        for run, times in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run(i))
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds]


def operation(name: str, images: np.ndarray, repeats: int) -> dict[str, float]:
    """Images per second of one operation; images: (B, S, S, 3) float32 in [0, 1]."""
    placed = jax.device_put(images)
    keys = jax.random.split(jax.random.key(0), len(images))
    program = jax.jit(jax.vmap(DEGRADATIONS[NAMES.index(name)].fn, in_axes=(0, 0, None)))
    return {"images_per_second": len(images) / in_turns([lambda _: program(keys, placed, SEVERITY)], repeats)[0]}


def recipe_program(recipe: Recipe | Mixture, photos: np.ndarray) -> Callable[[int], object]:
    """Draws a recipe's chains and applies them to photos, (4, S, S, 3) float32."""
    placed = jax.device_put(photos)

    @jax.jit
    def draw(step):
        return sample_chains(jax.random.fold_in(jax.random.key(0), step), recipe, CHAINS)

    @jax.jit
    def put(step, photos, chains):
        return apply_chains(jax.random.fold_in(jax.random.key(1), step), photos, chains, jnp.arange(PHOTOS))

    return lambda i: put(i, placed, draw(i))


def pretraining_share(config: ml_collections.ConfigDict, repeats: int) -> tuple[float, float]:
    """Median seconds of the recipe and of the whole pretraining step, in turns on one device."""
    mesh = distributed.make_mesh(jax.devices()[:1])
    model = build_model(config.model)
    optimizer = optim.make_optimizer(config.optim, STEPS)
    params = jax.tree.map(np.array, initialization.random_pretraining_params(config, model))
    run = manager.create(params, lambda path: not optim.matches(path, config.optim.frozen), optimizer)
    run = distributed.replicate(run, mesh)
    train_step = distributed.map_step(make_step(pretrain.make_loss(config, model), optimizer, config.optim.ema), mesh)
    side = config.pretrain.crop
    photos = np.random.default_rng(0).integers(0, 256, (config.batch_size, side, side, 3), dtype=np.uint8)
    batch = distributed.place_batch({"photo": photos, "index": np.arange(len(photos), dtype=np.int32)}, mesh)
    alone = jax.jit(lambda photos, index, step: pretrain.degrade(config, photos / 255.0, index, step))

    def step(_):
        nonlocal run
        run, metrics = train_step(run, batch)
        return run, metrics

    return tuple(in_turns([lambda i: alone(batch["photo"], batch["index"], i), step], repeats))


def peak_mib() -> float:
    """Peak resident set of the process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(
    side: int, recipe: str, names: Sequence[str], repeats: int, config: ml_collections.ConfigDict | None
) -> dict:
    """The measurements of the module's docstring as plain values."""
    device = jax.devices()[0]
    images = np.random.default_rng(0).random((BATCH, side, side, 3), np.float32)
    result = {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "jax": jax.__version__,
        "side": side,
        "batch": BATCH,
        "severity": SEVERITY,
        "repeats": repeats,
        "recipe": recipe,
        "peak_rss_mib": {"before": round(peak_mib())},
    }
    program = recipe_program(RECIPES[recipe], images[:PHOTOS])
    result["recipe_images_per_second"] = BATCH / in_turns([program], repeats)[0]
    result["peak_rss_mib"]["after_recipe"] = round(peak_mib())
    if stats := device.memory_stats():
        result["peak_device_mib"] = round(stats["peak_bytes_in_use"] / 2**20)
    result["operations"] = {name: operation(name, images, repeats) for name in names}
    if config:
        alone, whole = pretraining_share(config, repeats)
        result["pretraining"] = {"recipe_seconds": alone, "step_seconds": whole, "share": alone / whole}
    return result


def show(result: dict) -> None:
    """Print the measurements as a table."""
    from rich.console import Console
    from rich.table import Table

    console, table = Console(), Table("operation", "images/s")
    table.columns[1].justify = "right"
    for name, rates in result["operations"].items():
        table.add_row(name, f"{rates['images_per_second']:.0f}")
    table.add_section()
    table.add_row(f"recipe {result['recipe']}", f"{result['recipe_images_per_second']:.0f}")
    console.print(
        f"{result['device']}, {result['cores']} cores, jax {result['jax']}; load before: {result['load_before']}\n"
        f"{result['side']}x{result['side']}, batch {result['batch']}, median of {result['repeats']}",
        highlight=False,
    )
    console.print(table)
    memory = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["peak_rss_mib"].items())
    console.print(f"peak resident set, MiB: {memory}", highlight=False)
    if "peak_device_mib" in result:
        console.print(f"peak device memory, MiB: {result['peak_device_mib']}", highlight=False)
    if "pretraining" in result:
        share = result["pretraining"]
        console.print(
            f"pretraining step: {1e3 * share['step_seconds']:.0f} ms, of which the recipe takes "
            f"{1e3 * share['recipe_seconds']:.0f} ms, {100 * share['share']:.1f} %",
            highlight=False,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks degradations",
        description="Images per second of the degradations and of a recipe.",
        allow_abbrev=False,
    )
    parser.add_argument("--side", type=int, default=224, help="of the images in pixels (default: 224)")
    parser.add_argument("--recipe", choices=RECIPES, default="mixed", help="default: mixed")
    parser.add_argument("--names", help="operations to time, separated by commas (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="default: 7")
    parser.add_argument("--config", metavar="F.py", help="a pretraining: also time its step and the recipe's share")
    parser.add_argument("--json", type=result_file, metavar="F", help="also write the result to this file")
    args = parser.parse_args(argv)
    names = args.names.split(",") if args.names else list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"unknown degradation {unknown[0]!r}; see driqa degrade list")
    enable_compile_cache()
    config = initialization.with_model(read(args.config)) if args.config else None
    result = measure(args.side, args.recipe, names, args.repeats, config)
    show(result)
    if args.json:
        write_json(args.json, result)
    return 0
