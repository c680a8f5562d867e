"""A protocol of trainings: run after run, then the tables of all finished runs."""

from __future__ import annotations

import math
import pathlib
import sys
import traceback

import ml_collections

from driqa_jax import distributed
from driqa_jax.errors import UserError
from driqa_jax.io import make_folder, write_text
from driqa_jax.protocol.execute import execute_run
from driqa_jax.protocol.pages import write_pages
from driqa_jax.protocol.plan import DataSets, Run, make_plan
from driqa_jax.train.auxiliary.registry import group_size


def run_protocol(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Execute the unfinished runs of a protocol (see `driqa_jax.protocol.config.default`) and write its tables.

    Returns 0, 1 if a run failed (the others are finished), 130 or 143 if a signal stopped it. Raises UserError for an
    invalid configuration.
    """
    if config.get("kind") != "training":
        raise UserError(
            f"config.kind must be 'training', got {config.get('kind')!r}. The study of restored images runs from a "
            "checkout of the repository: python -m experiments.restored_images"
        )
    sets = DataSets()
    runs = make_plan(config, sets)
    trained = [ml_collections.ConfigDict(dict(run.config)) for run in runs if not run.weights]
    devices = [distributed.side_by_side(each.batch_size, group_size(each)) for each in trained]
    if devices:
        distributed.use_cores(config.cpu_devices or math.gcd(*devices))
    folder, failed = make_folder(workdir), {}
    for number, run in enumerate(runs, start=1):
        print(f"run {number} of {len(runs)}: {run.name}", file=sys.stderr, flush=True)
        code, error = attempt(run, folder / run.folder, sets)
        if code:
            return code
        if error:
            failed[run.name] = error
            print(f"failed: {run.name}: {error}", file=sys.stderr, flush=True)
    write_pages(folder, runs, failed)
    return 1 if failed else 0


def attempt(run: Run, folder: pathlib.Path, sets: DataSets) -> tuple[int, str]:
    """The exit code of a stopped run or 0, and the reason of a failure or "". An unexpected error goes to error.txt."""
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        return execute_run(run, folder, sets), ""
    except UserError as error:
        reason = str(error)
    except Exception as error:  # for example out of memory or a full disk: the other runs may still succeed
        write_text(make_folder(folder) / "error.txt", traceback.format_exc())
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"{first} (all of it in {folder / 'error.txt'})"
    return 0, " ".join(reason.split())
