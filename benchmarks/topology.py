"""Compile the training step for TPUs that are not attached: memory, arithmetic and collectives of one device.

    pip install '.[tpu]'                    # in a separate environment; no TPU is needed or used
    python -m benchmarks topology v5e:4x4 --batch 16
    python -m benchmarks topology v5e:2x4 --config configs/pretrain_lite.py --batch 8 --config.pretrain.crop=128

The TPU compiler runs on any CPU. It gives the program that these chips would run, not its speed. The step and the batch
shapes are those of the training loop. For one device the result has:

- arguments: parameters, averages, moments and the batch; the new state uses the same memory (donated);
- temporary: other memory of the step at its peak, mainly activations for the backward pass;
- peak: the maximum as reported by the compiler, if it reports one;
- GFLOP: additions and multiplications of the step, as counted by the compiler;
- collectives: instructions, and the bytes of their results.
"""

import argparse
import os
import shlex
import time
from collections.abc import Sequence

import jax
import ml_collections
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.collectives import count_collectives
from benchmarks.options import result_file
from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.cli.options import positive
from driqa_jax.data.open import open_source
from driqa_jax.errors import UserError
from driqa_jax.io import write_json
from driqa_jax.models.driqa import build_model
from driqa_jax.train import initialization, optim, rng
from driqa_jax.train.auxiliary.registry import group_size
from driqa_jax.train.config import read
from driqa_jax.train.stages import finetune
from driqa_jax.train.stages.registry import STAGES
from driqa_jax.train.step import make_step

STEPS = 1000  # of the schedule; it does not affect the program
EXAMPLE = "v5e:4x4"
# Do not look for a TPU, and allow several processes to compile at the same time.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def devices_of(name: str) -> Sequence:
    """Descriptions of the devices of a TPU topology such as v5e:4x4.

    Raises:
      UserError: libtpu is not installed, or the topology is unknown.
    """
    for variable, value in _NO_TPU_HERE.items():
        os.environ.setdefault(variable, value)
    try:
        return topologies.get_topology_desc(name, platform="tpu").devices
    except RuntimeError as error:
        if "not installed" in str(error):
            raise UserError(
                "the TPU compiler is not installed; in a separate environment: pip install 'driqa_jax[tpu]'"
            ) from error
        raise UserError(f"{name}: unknown topology; an example is {EXAMPLE} ({str(error).splitlines()[0]})") from error


def abstract_state(config: ml_collections.ConfigDict, model, mesh: Mesh):
    """Shapes of a run's state, replicated on `mesh`; computes nothing."""
    if config.stage == "pretrain":
        params = jax.eval_shape(lambda: initialization.random_pretraining_params(config, model))
    else:
        params = jax.eval_shape(lambda: model.init(rng.stream(0, "init"), *finetune.example(config)))["params"]
    optimizer = optim.make_optimizer(config.optim, STEPS)

    def begin(params):
        return manager.create(params, lambda path: optim.is_trained(config, path), optimizer)

    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=distributed.everywhere(mesh)),
        jax.eval_shape(begin, params),
    )


def abstract_batch(config: ml_collections.ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of generated images of `config.batch_size`, split over `mesh`."""
    unit = max(group_size(config), 1) * jax.device_count()
    small = ml_collections.ConfigDict({**config.to_dict(), "batch_size": unit})
    small.data.threads = 1
    source = open_source("fake", count=max(unit, 2))
    batch = next(STAGES[config.stage].batches(small, source, 0, 0, 1))
    split = NamedSharding(mesh, PartitionSpec(distributed.AXIS))
    return {
        # Some arrays exist for a fraction of the examples only.
        name: jax.ShapeDtypeStruct(
            (config.batch_size * array.shape[0] // unit, *array.shape[1:]), array.dtype, sharding=split
        )
        for name, array in batch.items()
    }


def compile_step(config: ml_collections.ConfigDict, devices: Sequence):
    """The compiled step of a configuration for `devices`; `config.batch_size` is the global batch.

    Raises:
      UserError: the step does not fit the devices' memory, or a device's images do not form whole groups.
    """
    mesh = distributed.make_mesh(devices)
    if config.batch_size // mesh.size % max(group_size(config), 1):
        raise UserError(
            f"{config.batch_size // mesh.size} images per device do not form whole groups of {group_size(config)}, "
            "which rank pairs, copies, blocks or parts need; change --batch"
        )
    model = build_model(config.model, config.remat)
    loss, optimizer = STAGES[config.stage].make_loss(config, model), optim.make_optimizer(config.optim, STEPS)
    step = make_step(loss, optimizer, config.optim.ema, config.compute, config.accumulate)
    lowered = distributed.map_step(step, mesh).lower(abstract_state(config, model, mesh), abstract_batch(config, mesh))
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        per_device = config.batch_size // mesh.size
        raise UserError(
            f"{config.model.variant} at {per_device} images per device does not fit; use a smaller --batch "
            f"({str(error).splitlines()[0]})"
        ) from error


def describe(compiled) -> dict:
    """Memory in MiB, GFLOP and collectives of one device."""
    memory, mib = compiled.memory_analysis(), 1 / 2**20
    result = {
        "arguments_mib": memory.argument_size_in_bytes * mib,
        "temporary_mib": memory.temp_size_in_bytes * mib,
        "program_mib": memory.generated_code_size_in_bytes * mib,
        "gflop": compiled.cost_analysis()["flops"] / 1e9,
        "collectives": {
            kind: {"count": traffic.count, "mib": traffic.bytes * mib}
            for kind, traffic in count_collectives(compiled.as_text()).items()
        },
    }
    if peak := getattr(memory, "peak_memory_in_bytes", 0):
        result["peak_mib"] = peak * mib
    return result


def measure(name: str, config: ml_collections.ConfigDict, per_device: int) -> dict:
    """Compile for topology `name` with `per_device` images per device, and describe the program."""
    devices = devices_of(name)
    config = ml_collections.ConfigDict({**config.to_dict(), "batch_size": per_device * len(devices)})
    began = time.perf_counter()
    compiled = compile_step(initialization.with_model(config), devices)
    return {
        "variant": config.model.variant,
        "stage": config.stage,
        "topology": name,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "batch_per_device": per_device,
        "compile_seconds": time.perf_counter() - began,
        **describe(compiled),
    }


def show(rows: list[dict]) -> None:
    """Print the results of `measure` as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("variant", "arguments", "temporary", "peak", "GFLOP", "collectives", "compiled in")
    for row in rows:
        collectives = ", ".join(
            f"{each['count']} {kind} {each['mib']:.1f} MiB" for kind, each in row["collectives"].items()
        )
        table.add_row(
            row["variant"],
            *(f"{row[key]:.0f} MiB" if key in row else "-" for key in ("arguments_mib", "temporary_mib", "peak_mib")),
            f"{row['gflop']:.0f}",
            collectives or "none",
            f"{row['compile_seconds']:.0f} s",
        )
    first = rows[0]
    console = Console()
    console.print(
        f"{first['stage']} step for {first['topology']}: {first['devices']} x {first['device']}, "
        f"{first['batch_per_device']} images per device; for one device:",
        highlight=False,
    )
    console.print(table)


def versions() -> dict[str, str]:
    """Versions of the compiling packages."""
    from importlib.metadata import version

    return {name: version(name) for name in ("jax", "jaxlib", "libtpu", "flax")}


def main(argv: Sequence[str] | None = None) -> int:
    """Compile and print. Returns 0. Raises UserError if it cannot be compiled."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks topology",
        description="Compile the training step for a TPU topology: memory, FLOPs and collectives of one device.",
        epilog=f"example:\n  python -m benchmarks topology {EXAMPLE} --config configs/biq2021_lite.py --batch 16\n\n"
        "Set any key of the configuration with --config.KEY=VALUE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("topology", help=f"such as {EXAMPLE}, v5p:2x2x1, v6e:2x4")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[None],
        metavar="F.py",
        help="configurations of trainings (default: stage 2)",
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images per device (default: the config's batch_size)"
    )
    parser.add_argument("--json", type=result_file, metavar="F", help="also write the result to this file")
    args, rest = parser.parse_known_args(argv)

    from driqa_jax.cli.train import parse_overrides

    overrides = parse_overrides(rest)
    # Only the description of a TPU is needed, even on a machine that has one.
    jax.config.update("jax_platforms", "cpu")
    rows = []
    for path in args.config:
        config = read(path, overrides)
        rows.append(measure(args.topology, config, args.batch or config.batch_size))
        show(rows[-1:])
        if args.json:
            command = shlex.join(["python", "-m", "benchmarks", "topology", *(argv or ())])
            report = {"command": command, "versions": versions(), "rows": rows}
            write_json(args.json, report)
    return 0
