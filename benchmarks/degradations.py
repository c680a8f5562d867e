"""Images a second of each degradation and of a recipe, beside a host pipeline, and what the recipe costs pretraining.

    python -m benchmarks degradations --side 224 --config configs/pretrain_lite.py --json degradations.json

What is measured, in one run on one device, on random pictures; compilation excluded, the median of repeats:

- each operation: 32 pictures at severity .5, a key each, as one compiled program;
- the recipe: 8 chains drawn and put on 4 pictures each, another draw each time, with the pictures on the device;
- the host: the same operations on the same pictures, as `host_degradations` has them, on as many threads as there are
  cores (numpy, scipy, Pillow and OpenCV let threads run side by side). A dash: no obvious counterpart;
- the recipe against the host: both with the types that the host has, the host on the chains that the device drew;
- the share (with --config): the time of the recipe alone as that pretraining's step draws and applies it, over the time
  of the whole step;
- memory: the peak resident set of the process once the recipe has been compiled and has run, and what it was before;
  on an accelerator the device's own peak besides. This comes first, since a peak never falls.

Device and host take turns, so that what else the machine does meets both.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.host_degradations import HOST, library
from driqa_jax import distributed
from driqa_jax.checkpoints import state
from driqa_jax.cli.options import result_file
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.degradations import (
    CLEAN,
    DEGRADATIONS,
    NAMES,
    RECIPES,
    Mixture,
    Recipe,
    apply_chains,
    sample_chains,
)
from driqa_jax.models.driqa import build_model
from driqa_jax.train import initialization, optim
from driqa_jax.train.config import read
from driqa_jax.train.stages import pretrain
from driqa_jax.train.step import make_step

CHAINS, PHOTOS = 8, 4
BATCH = CHAINS * PHOTOS
SEVERITY = 0.5
STEPS = 1000  # of the schedule; the time of a step does not depend on it


def turn_by_turn(programs: Sequence[Callable[[int], object]], repeats: int) -> list[float]:
    """Median seconds of each program's `run(i)`, i from 1, one after another in every turn.

    So what else the machine does meets all of them. `run(0)` of each comes before, and may compile.
    """
    seconds = [[] for _ in programs]
    for i in range(repeats + 1):
        for run, times in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run(i))
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds]


def operation(name: str, pictures: np.ndarray, threads: Executor, repeats: int) -> dict[str, float | None]:
    """Images a second of one operation, on the device and on the host; pictures: float32 (B, S, S, 3) in [0, 1]."""
    placed = jax.device_put(pictures)
    keys = jax.random.split(jax.random.key(0), len(pictures))
    program = jax.jit(jax.vmap(DEGRADATIONS[NAMES.index(name)].fn, in_axes=(0, 0, None)))

    def host(_):
        return list(
            threads.map(lambda i: HOST[name](np.random.default_rng(i), pictures[i], SEVERITY), range(len(pictures)))
        )

    programs = [lambda _: program(keys, placed, SEVERITY), *([host] if name in HOST else [])]
    return _rates(turn_by_turn(programs, repeats))


def _rates(seconds: Sequence[float]) -> dict[str, float | None]:
    here, there = (BATCH / each for each in seconds) if len(seconds) == 2 else (BATCH / seconds[0], None)
    return {"images_per_second": here, "host_images_per_second": there}


def _draw(recipe: Recipe | Mixture) -> Callable:
    """The chains of a step, compiled."""

    @jax.jit
    def chains(step):
        return sample_chains(jax.random.fold_in(jax.random.key(0), step), recipe, CHAINS)

    return chains


@jax.jit
def _put(step: int, photos: jax.Array, chains) -> jax.Array:
    # Chains are an argument, so that recipes of one length share this program, which takes long to compile.
    return apply_chains(jax.random.fold_in(jax.random.key(1), step), photos, chains, jnp.arange(PHOTOS))


def on_device(recipe: Recipe | Mixture, photos: np.ndarray) -> Callable[[int], object]:
    """Draws a recipe's chains and puts them on photos, float32 (4, S, S, 3)."""
    draw, placed = _draw(recipe), jax.device_put(photos)
    return lambda i: _put(i, placed, draw(i))


def on_host(recipe: Recipe | Mixture, photos: np.ndarray, threads: Executor, repeats: int) -> Callable[[int], object]:
    """Puts the chains that `on_device` draws on the same photos; the host must have the recipe's types."""
    draw = _draw(recipe)
    drawn = [jax.tree.map(np.asarray, draw(i)) for i in range(repeats + 1)]
    places = [(chain, photo) for chain in range(CHAINS) for photo in range(PHOTOS)]

    def one(step, chain, photo):
        rng, image = np.random.default_rng([step, chain, photo]), photos[photo]
        for kind, severity in zip(drawn[step].types[chain], drawn[step].severities[chain], strict=True):
            if kind != CLEAN:
                image = HOST[NAMES[kind]](rng, image, float(severity))
        return np.rint(image * 255) / np.float32(255)

    return lambda i: list(threads.map(lambda place: one(i, *place), places))


def pretraining_share(config: ml_collections.ConfigDict, repeats: int) -> tuple[float, float]:
    """Median seconds of the recipe alone and of the whole step of a pretraining, turn by turn on one device."""
    mesh = distributed.make_mesh(jax.devices()[:1])
    model = build_model(config.model)
    optimizer = optim.make_optimizer(config.optim, STEPS)
    params = jax.tree.map(np.array, initialization.random_pretraining_params(config, model))
    run = state.create(params, lambda path: not optim.is_frozen(config.optim, path), optimizer)
    run = distributed.replicate(run, mesh)
    advance = distributed.map_step(make_step(pretrain.make_loss(config, model), optimizer, config.optim.ema), mesh)
    side = config.pretrain.crop
    photos = np.random.default_rng(0).integers(0, 256, (config.batch_size, side, side, 3), dtype=np.uint8)
    batch = distributed.place_batch({"photo": photos, "index": np.arange(len(photos), dtype=np.int32)}, mesh)
    alone = jax.jit(lambda photos, index, step: pretrain.degrade(config, photos / 255.0, index, step))

    def step(_):
        nonlocal run
        run, metrics = advance(run, batch)
        return run, metrics

    return tuple(turn_by_turn([lambda i: alone(batch["photo"], batch["index"], i), step], repeats))


def peak_mib() -> float:
    """The process' peak resident set so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(
    side: int, recipe: str, names: Sequence[str], repeats: int, config: ml_collections.ConfigDict | None
) -> dict:
    """All that the module's docstring lists, as plain values."""
    device = jax.devices()[0]
    pictures = np.random.default_rng(0).random((BATCH, side, side, 3), np.float32)
    found = {
        "device": f"{device.platform}: {device.device_kind}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "jax": jax.__version__,
        "host_library": library(),
        "side": side,
        "batch": BATCH,
        "severity": SEVERITY,
        "repeats": repeats,
        "recipe": recipe,
        "peak_rss_mib": {"before": round(peak_mib())},
    }
    photos = pictures[:PHOTOS]
    found["recipe_images_per_second"] = BATCH / turn_by_turn([on_device(RECIPES[recipe], photos)], repeats)[0]
    found["peak_rss_mib"]["after_recipe"] = round(peak_mib())
    if stats := device.memory_stats():
        found["peak_device_mib"] = round(stats["peak_bytes_in_use"] / 2**20)
    shared = Recipe.from_config({"name": recipe, "names": [name for name in NAMES if name in HOST]})
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found["operations"] = {name: operation(name, pictures, threads, repeats) for name in names}
        both = [on_device(shared, photos), on_host(shared, photos, threads, repeats)]
        found["shared_types"] = _rates(turn_by_turn(both, repeats))
    if config:
        alone, whole = pretraining_share(config, repeats)
        found["pretraining"] = {"recipe_seconds": alone, "step_seconds": whole, "share": alone / whole}
    return found


def show(found: dict) -> None:
    """The result as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("images/s", "device", "host", "device/host")
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name, here, there):
        ratio = f"{here / there:.1f}" if there else "-"
        table.add_row(name, f"{here:.0f}", f"{there:.0f}" if there else "-", ratio)

    for name, rates in found["operations"].items():
        add(name, rates["images_per_second"], rates["host_images_per_second"])
    table.add_section()
    add(f"recipe {found['recipe']}", found["recipe_images_per_second"], None)
    rates = found["shared_types"]
    add("  types of both", rates["images_per_second"], rates["host_images_per_second"])
    console.print(
        f"{found['device']}, {found['cores']} cores, jax {found['jax']}; host: {found['host_library']}, "
        f"{found['cores']} threads; load before: {found['load_before']}\n"
        f"{found['side']}x{found['side']}, batch {found['batch']}, median of {found['repeats']}",
        highlight=False,
    )
    console.print(table)
    memory = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found["peak_rss_mib"].items())
    console.print(f"peak resident set, MiB: {memory}", highlight=False)
    if "peak_device_mib" in found:
        console.print(f"peak device memory, MiB: {found['peak_device_mib']}", highlight=False)
    if "pretraining" in found:
        share = found["pretraining"]
        console.print(
            f"pretraining step of lite: {1e3 * share['step_seconds']:.0f} ms, of it the recipe "
            f"{1e3 * share['recipe_seconds']:.0f} ms, {100 * share['share']:.1f} %",
            highlight=False,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks degradations",
        description="Images a second of the degradations and of a recipe, beside a host pipeline.",
        allow_abbrev=False,
    )
    parser.add_argument("--side", type=int, default=224, help="of the pictures (default: 224)")
    parser.add_argument("--recipe", choices=RECIPES, default="mixed", help="default: mixed")
    parser.add_argument("--names", help="operations to time, with commas between (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="default: 7")
    parser.add_argument("--config", metavar="F.py", help="a pretraining, to time its step and the recipe's share of it")
    parser.add_argument("--json", type=result_file, metavar="F", help="write the result there too")
    args = parser.parse_args(argv)
    names = args.names.split(",") if args.names else list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no degradation is called {unknown[0]!r}; see driqa degrade list")
    enable_compile_cache()
    config = initialization.with_model(read(args.config)) if args.config else None
    found = measure(args.side, args.recipe, names, args.repeats, config)
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0
