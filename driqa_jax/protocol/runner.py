"""A protocol of trainings: run after run, then the table of all that are done."""

from __future__ import annotations

import math
import pathlib
import sys
import traceback

import ml_collections

from driqa_jax import distributed
from driqa_jax.errors import UserError
from driqa_jax.io import write_whole
from driqa_jax.protocol.execute import carry_out
from driqa_jax.protocol.pages import write_pages
from driqa_jax.protocol.plan import Run, Sets, make_plan
from driqa_jax.train.auxiliary.registry import group_size


def run_protocol(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Do what is not done yet of a protocol, see `driqa_jax.protocol.config.default`, and write its tables.

    Returns 0, 1 where a run failed (the others are done), 130 or 143 where a signal stopped it. Raises UserError for a
    configuration that cannot be carried out.
    """
    if config.get("kind") != "training":
        raise UserError(
            f"config.kind must be 'training', got {config.get('kind')!r}. The study of restored images runs from a "
            "checkout of the repository: python -m experiments.restored_images"
        )
    sets = Sets()
    runs = make_plan(config, sets)
    trained = [ml_collections.ConfigDict(dict(run.config)) for run in runs if not run.weights]
    fitting = [distributed.side_by_side(each.batch_size, group_size(each)) for each in trained]
    if fitting:
        distributed.use_cores(config.cpu_devices or math.gcd(*fitting))
    folder, failed = pathlib.Path(workdir), {}
    folder.mkdir(parents=True, exist_ok=True)
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


def attempt(run: Run, folder: pathlib.Path, sets: Sets) -> tuple[int, str]:
    """The exit code of a run that was stopped, else 0; why it failed, else "". What failed has its error.txt."""
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        return carry_out(run, folder, sets), ""
    except UserError as error:
        said = str(error)
    except Exception as error:  # out of memory, a disk that is full: the other runs may still be done
        said = f"{type(error).__name__}: {error}"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "error.txt", traceback.format_exc().encode())
        said = f"{said.splitlines()[0]} (all of it in {folder / 'error.txt'})"
    return 0, " ".join(said.split())
