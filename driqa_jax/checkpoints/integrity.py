"""Finds the newest checkpoint that is intact by reading it completely, and quarantines corrupt ones.

A power cut or a full disk can leave a checkpoint incomplete after its folder was renamed into place.
"""

import itertools
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from driqa_jax.errors import UserError


class CorruptCheckpointError(Exception):
    """A checkpoint cannot be read completely; the message says why."""


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in a folder, newest first, without those that are still being written."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def read(path: pathlib.Path, parts: tuple[str, ...] = ()) -> tuple[dict, dict]:
    """The state of a checkpoint as numpy arrays, whole or only `parts` of it, and the run record saved beside it.

    The checkpoint's own metadata says what to read, so that a change of code or configuration does not look like
    corruption. The handlers are called without the manager's barriers, so that a single host can read.

    Raises CorruptCheckpointError if a file is missing, truncated or empty.
    """
    try:
        run = ocp.JsonCheckpointHandler().restore(path / "run")
        handler = ocp.PyTreeCheckpointHandler()
        saved = handler.metadata(path / "state").tree
        item = {name: saved[name] for name in parts or saved}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        args = ocp.args.PyTreeRestore(item=item, restore_args=as_numpy, partial_restore=True)
        return handler.restore(path / "state", args=args), run
    except MemoryError:
        raise
    except Exception as error:  # JSON, Orbax and its array store raise many types
        raise CorruptCheckpointError(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error


def newest(folder: pathlib.Path, parts: tuple[str, ...] = ()) -> tuple[int | None, dict, dict, dict[int, str]]:
    """The newest intact checkpoint in a folder.

    Returns (step, state, run record, reasons by step why newer ones are corrupt); (None, {}, {}, {}) without any.
    Raises UserError if all checkpoints are corrupt.
    """
    corrupt = {}
    for step in steps_in(folder):
        try:
            return step, *read(folder / str(step), parts), corrupt
        except CorruptCheckpointError as error:
            corrupt[step] = str(error)
    if corrupt:
        raise UserError(
            f"{folder}: all checkpoints are corrupt ({'; '.join(f'{step}: {why}' for step, why in corrupt.items())}). "
            "Restore one from a backup, or remove the folder to start again"
        )
    return None, {}, {}, {}


def quarantine(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Move a checkpoint to `broken-checkpoints` beside its folder; returns its new path."""
    target = folder.parent / "broken-checkpoints" / str(step)
    target.parent.mkdir(exist_ok=True)
    numbers = itertools.count(2)
    while target.exists():
        target = target.with_name(f"{step}-{next(numbers)}")
    return (folder / str(step)).rename(target)
