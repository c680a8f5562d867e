"""The cost of a stage 2 training on this machine: compilation, step, loop, data, checkpoints, memory.

    python -m benchmarks train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds --json bench_train.json
    python -m benchmarks train --mode synthetic --devices 1,2 --peak-tflops 0.4
    python -m benchmarks train --topology v5e:4x4 --batch 16    # for chips that this machine does not have

All figures come from one run; on a shared machine only their ratios are meaningful. Definitions:

compile, cold    s    tracing, lowering and compiling the step with an empty compilation cache
compile, warm    s    the same with the program in that cache
step             ms   one call of the compiled step on a synthetic batch, from dispatch to results ready; median, p95
images/s         1/s  batch_size / median step, of all devices together and per device
model FLOPs      GF   2 x multiply-adds of all matrix products and convolutions of one step on one device, forward and
                      backward, counted in its jaxpr (without what frozen parts save, what remat or accumulation repeat,
                      and the backward pass of depthwise convolutions, so the utilization is a lower bound)
utilization      %    model FLOPs / (median step x peak of a device); the peak is --peak-tflops, or measured: the best
                      of ten square matrix products in the step's own dtype (on a CPU all devices share one peak)
peak memory      MiB  of the fullest device if it reports it, else the compiler's estimate for the step (arguments,
                      results and temporaries of one device); and of this process
scaling          %    time on one device / (n x time on n) for the same batch, with --devices; CPU devices share the
                      cores, so a machine whose cores were all busy on one device gives 100 % / n
loop             %    mean step of the loop (with logging and placement, without checkpoints) on a synthetic batch that
                      is already in memory, over the mean of bare steps dispatched in a row before and after it, minus 1
waiting          %    share of the loop's time on real data in batch requests that were answered when the devices were
                      idle (an upper bound, because the whole request counts)
with data        %    mean step of the loop on real data over the same bare step, minus 1; includes the slowdown of the
                      step by decoding on the same cores
loader alone     1/s  images per second of the input pipeline alone, and its ratio to the images/s of the step
checkpoint       %    median time for which a save holds the loop / the configured interval between saves; measured in a
                      separate loop, because saving often would slow all steps of the others
"""

import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.options import result_file
from benchmarks.stage2 import fresh_params, fresh_step, synthetic_batch
from benchmarks.timed_loop import time_loop
from driqa_jax import distributed
from driqa_jax.cli.options import positive
from driqa_jax.cli.train import parse_overrides
from driqa_jax.errors import UserError
from driqa_jax.models.precision import COMPUTE
from driqa_jax.models.summary import multiply_adds
from driqa_jax.train import initialization, loop
from driqa_jax.train.auxiliary.registry import group_size
from driqa_jax.train.config import read
from driqa_jax.train.stages.registry import STAGES

MODES = ("synthetic", "loader", "both", "all")
MIB = 2**20


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """While active, use an empty temporary compilation cache."""
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
    before = {name: getattr(jax.config, f"jax_{name}") for name in names}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, value in zip(names, (folder, 0, 0), strict=True):
                jax.config.update(f"jax_{name}", value)
            compilation_cache.reset_cache()
            yield
        finally:
            for name, value in before.items():
                jax.config.update(f"jax_{name}", value)
            compilation_cache.reset_cache()


def compiled_step(config, params, mesh, batch):
    """(compiled step, state, placed batch, seconds of tracing, lowering and compiling)."""
    train_step, run, placed = fresh_step(config, params, mesh, batch)
    start = time.perf_counter()
    compiled = train_step.lower(run, placed).compile()
    return compiled, run, placed, time.perf_counter() - start


class Bare:
    """The compiled step on one batch, without a loop."""

    def __init__(self, compiled, run, batch):
        self._compiled, self._batch = compiled, batch
        self._run, _ = jax.block_until_ready(compiled(run, batch))

    def each(self, count: int) -> list[float]:
        """Seconds of `count` steps, each until its results are ready."""
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self._run, _ = jax.block_until_ready(self._compiled(self._run, self._batch))
            seconds.append(time.perf_counter() - start)
        return seconds

    def mean(self, count: int) -> float:
        """Mean seconds of `count` steps that are dispatched in a row."""
        start = time.perf_counter()
        for _ in range(count):
            self._run, _ = self._compiled(self._run, self._batch)
        jax.block_until_ready(self._run)
        return (time.perf_counter() - start) / count


def model_flops(config: ml_collections.ConfigDict, params: dict, mesh, batch: dict) -> float:
    """Model FLOPs of one step on one device, as defined above."""
    plain = ml_collections.ConfigDict(config.to_dict())
    plain.remat, plain.accumulate = False, 1
    train_step, run, placed = fresh_step(plain, params, mesh, batch)
    return 2.0 * multiply_adds(train_step, run, placed)


def measured_peak(compute: str) -> float:
    """FLOP/s of one device: the best of ten products of square matrices."""
    cpu = jax.devices()[0].platform == "cpu"
    side = 2048 if cpu else 8192
    square = jnp.ones((side, side), COMPUTE[compute])
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    best = min(_seconds(lambda: product(square, square)) for _ in range(10))
    return 2.0 * side**3 / best / (jax.device_count() if cpu else 1)


def _seconds(action) -> float:
    start = time.perf_counter()
    jax.block_until_ready(action())
    return time.perf_counter() - start


def step_figures(config, params, mesh, batch, steps: int, peak_tflops: float | None) -> tuple[dict, Bare]:
    """Figures of compilation, step, utilization and memory, and the step itself."""
    _, _, _, cold = compiled_step(config, params, mesh, batch)
    jax.clear_caches()
    compiled, run, placed, warm = compiled_step(config, params, mesh, batch)
    bare = Bare(compiled, run, placed)
    seconds = bare.each(steps)
    median, memory = statistics.median(seconds), compiled.memory_analysis()
    flops = model_flops(config, params, mesh, batch)
    peak = peak_tflops * 1e12 if peak_tflops else measured_peak(config.compute)
    on_device = [device.memory_stats() for device in mesh.devices.flat]
    planned = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    planned -= memory.alias_size_in_bytes
    found = {
        "compile_cold_s": cold,
        "compile_warm_s": warm,
        "step_median_ms": 1e3 * median,
        "step_p95_ms": 1e3 * float(np.percentile(seconds, 95)),
        "images_per_second": config.batch_size / median,
        "images_per_second_per_device": config.batch_size / median / mesh.size,
        "model_gflops_per_device": flops / 1e9,
        "peak_tflops_per_device": peak / 1e12,
        "peak_is": "given" if peak_tflops else "measured",
        "utilization": flops / median / peak,
        "planned_mib_per_device": planned / MIB,
    }
    if all(on_device):
        found["peak_mib_per_device"] = max(stats["peak_bytes_in_use"] for stats in on_device) / MIB
    return found, bare


def scaling(config, params, batch, counts: Sequence[int], steps: int) -> dict[str, dict]:
    """Median step on the first n devices for the same batch, and the efficiency relative to one device."""
    seconds = {}
    for count in sorted({1, *counts}):
        mesh = distributed.make_mesh(jax.devices()[:count])
        seconds[count] = statistics.median(Bare(*compiled_step(config, params, mesh, batch)[:3]).each(steps))
    return {
        str(count): {"step_median_ms": 1e3 * each, "efficiency": seconds[1] / (count * each)}
        for count, each in seconds.items()
    }


def loader_figures(config: ml_collections.ConfigDict, steps: int) -> dict:
    """Images per second of the input pipeline of this host alone."""
    batches = STAGES[config.stage].batches(config, loop.sources(config)[0], 0, 0, 1)
    prefetched = 4  # batches that the pipeline may have prepared already
    for _ in itertools.islice(batches, prefetched):
        pass
    seconds = _seconds(lambda: [None for _ in itertools.islice(batches, steps)])
    return {"images_per_second": steps * config.batch_size / seconds}


def measure(config, mode: str, steps: int, counts: Sequence[int], peak: float | None) -> dict:
    """All figures of a mode, as defined above; shares are fractions."""
    found = {}
    if mode in ("loader", "all"):
        found["loader"] = loader_figures(config, steps)
    if mode == "loader":
        return found
    params, batch, mesh = fresh_params(config), synthetic_batch(config), distributed.make_mesh()
    found["step"], bare = step_figures(config, params, mesh, batch, steps, peak)
    if counts:
        found["scaling"] = scaling(config, params, batch, counts, steps)
    fake = ml_collections.ConfigDict(config.to_dict())
    fake.data.update({"kind": "fake", "name": "", "split_file": "", "train": "train/fit", "val": "train/val"})
    runs = {
        "synthetic": lambda: time_loop(fake, params, itertools.repeat(batch), steps),
        "both": lambda: time_loop(config, params, None, steps),
    }
    for name in ("synthetic", "both") if mode == "all" else (mode,):
        before = bare.mean(steps)
        loop_run = runs[name]()
        step = (before + bare.mean(steps)) / 2
        found[f"loop_{name}"] = {
            "bare_step_ms": 1e3 * step,
            "step_ms": 1e3 * loop_run.step,
            "over_bare": loop_run.step / step - 1,
            "waiting": loop_run.waiting / (loop_run.step * steps),
        }
    if mode in ("synthetic", "all"):
        saves = time_loop(fake, params, itertools.repeat(batch), steps, max(1, steps // 3)).saves
        held, interval = statistics.median(saves), 60 * config.checkpoint.minutes
        found["checkpoint"] = {"held_ms": 1e3 * held, "interval_s": interval, "share": held / interval}
    if "loader" in found:
        found["loader"]["times_the_step"] = found["loader"]["images_per_second"] / found["step"]["images_per_second"]
    found["process_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def table(found: dict) -> list[tuple[str, str]]:
    """The figures as rows (name, value with unit)."""
    rows = []
    if step := found.get("step"):
        peak = f"{step['peak_tflops_per_device']:.3g} TFLOP/s a device, {step['peak_is']}"
        memory = step.get("peak_mib_per_device", step["planned_mib_per_device"])
        rows += [
            ("compile, cold", f"{step['compile_cold_s']:.1f} s"),
            ("compile, warm", f"{step['compile_warm_s']:.1f} s"),
            ("step, median", f"{step['step_median_ms']:.0f} ms"),
            ("step, 95th percentile", f"{step['step_p95_ms']:.0f} ms"),
            ("images/s", f"{step['images_per_second']:.2f}"),
            ("images/s a device", f"{step['images_per_second_per_device']:.2f}"),
            ("model FLOPs of a step, a device", f"{step['model_gflops_per_device']:.1f} G"),
            ("model-FLOPs utilization", f"{100 * step['utilization']:.1f} % of {peak}"),
            ("peak memory of a device", f"{memory:.0f} MiB" + ("" if "peak_mib_per_device" in step else ", planned")),
            ("peak memory of the process", f"{found['process_peak_mib']:.0f} MiB"),
        ]
    for count, each in found.get("scaling", {}).items():
        value = f"{each['step_median_ms']:.0f} ms, {100 * each['efficiency']:.0f} %"
        rows.append((f"the same batch on {count} device(s)", value))
    if run := found.get("loop_synthetic"):
        rows.append(("the loop over the bare step", f"{100 * run['over_bare']:+.1f} %"))
    if save := found.get("checkpoint"):
        value = f"{save['held_ms']:.0f} ms every {save['interval_s']:.0f} s, {100 * save['share']:.3f} %"
        rows.append(("a checkpoint holds the loop", value))
    if run := found.get("loop_both"):
        rows.append(("waiting for data", f"{100 * run['waiting']:.2f} %"))
        rows.append(("the loop with data over the bare step", f"{100 * run['over_bare']:+.1f} %"))
    if loader := found.get("loader"):
        times = f", {loader['times_the_step']:.1f} times the step's" if "times_the_step" in loader else ""
        rows.append(("the loader alone", f"{loader['images_per_second']:.0f} images/s{times}"))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0. Raises UserError for invalid options."""
    elsewhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    elsewhere.add_argument("--topology", metavar="T", help="compile for these chips without measuring")
    known, rest = elsewhere.parse_known_args(argv)
    if known.topology:
        from benchmarks import topology

        return topology.main([known.topology, *rest])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks train",
        parents=[elsewhere],
        description=__doc__,
        epilog="Any key of the configuration can be set with --config.KEY=VALUE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="F.py", help="config file of a stage 2 training (default: the default configuration)"
    )
    parser.add_argument("--mode", choices=MODES, default="all", help="source of the batches (default: all in turn)")
    parser.add_argument(
        "--steps", type=positive, default=30, metavar="N", help="steps of each measurement (default: 30)"
    )
    parser.add_argument("--devices", metavar="N,...", help="numbers of devices to measure scaling on")
    parser.add_argument("--cpu-devices", type=positive, metavar="N", help="as for driqa train")
    parser.add_argument("--peak-tflops", type=float, metavar="X", help="peak of one device (default: measured)")
    parser.add_argument("--json", type=result_file, metavar="F", help="file to write the figures to as well")
    args, rest = parser.parse_known_args(argv)
    config = read(args.config, parse_overrides(rest))
    if config.stage != "finetune":
        raise UserError(f"python -m benchmarks train needs config.stage=finetune, got {config.stage!r}")
    config = initialization.with_model(config)
    counts = [positive(count) for count in args.devices.split(",")] if args.devices else []
    distributed.use_cores(
        args.cpu_devices or max([distributed.side_by_side(config.batch_size, group_size(config)), *counts])
    )
    if counts and max(counts) > jax.device_count():
        raise UserError(f"--devices {args.devices}: this machine has {jax.device_count()}")
    device = jax.devices()[0]
    machine = {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "load_before": round(os.getloadavg()[0], 1),
    }
    described = {"variant": config.model.variant, "batch_size": config.batch_size, "compute": config.compute}
    described |= {"canvas": list(config.view.canvas), "tiles": config.view.tiles, "remat": config.remat}
    described |= {"accumulate": config.accumulate, "data": config.data.name or config.data.kind, "steps": args.steps}
    with empty_cache():
        found = {
            "machine": machine,
            "config": described,
            **measure(config, args.mode, args.steps, counts, args.peak_tflops),
        }
    print("{devices} x {device}, {cores} cores, jax {jax}, load before: {load_before}".format(**machine))
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    for name, value in table(found):
        print(f"  {name:40}{value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0
