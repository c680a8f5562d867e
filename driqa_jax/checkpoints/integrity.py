"""Which checkpoints are whole: one that a power cut or a full disk has torn is found by reading it to its end."""

import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from driqa_jax.errors import UserError


class Torn(Exception):
    """A checkpoint that cannot be read to its end; the message says what is wrong with it."""


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in a folder, newest first; those still being written do not count."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def read(path: pathlib.Path, parts: tuple[str, ...] = ()) -> tuple[dict, dict]:
    """A checkpoint's state as numpy, of all its parts or only of these, and what was saved beside it.

    What to read is what the checkpoint says of itself: no change of the code or of the configuration looks like damage.
    The handlers are called as they are, without the barriers around them, so that a single host can look.

    Raises:
      Torn: a file is missing, cut or empty.
    """
    try:
        run = ocp.JsonCheckpointHandler().restore(path / "run")
        handler = ocp.PyTreeCheckpointHandler()
        saved = handler.metadata(path / "state").tree
        wanted = {name: saved[name] for name in parts or saved}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        how = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        return handler.restore(path / "state", args=how), run
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: of JSON, of Orbax, of the array store beneath it
        raise Torn(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error


def newest(folder: pathlib.Path, parts: tuple[str, ...] = ()):
    """The newest whole checkpoint in a folder.

    Returns:
      Its step, state and run, see `read` (None, {}, {} where there is no checkpoint), and, for the newer ones that are
      not whole, what is wrong with them, by step.

    Raises:
      UserError: there are checkpoints, and none is whole.
    """
    torn = {}
    for step in steps_in(folder):
        try:
            return step, *read(folder / str(step), parts), torn
        except Torn as error:
            torn[step] = str(error)
    if torn:
        raise UserError(
            f"{folder}: no whole checkpoint is left ({'; '.join(f'{step}: {why}' for step, why in torn.items())}). "
            "Put one back from a copy, or remove the folder to begin anew"
        )
    return None, {}, {}, {}


def set_aside(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Move a checkpoint out of the way, to `broken-checkpoints` beside its folder; returns its new place."""
    place = folder.parent / "broken-checkpoints" / str(step)
    place.parent.mkdir(exist_ok=True)
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f"{step}-{number}")
    return (folder / str(step)).rename(place)
