"""Checkpoints of a training run, by Orbax: the state, the position in the data, the configuration.

A checkpoint is written under a temporary name, renamed once it is complete, and only then is an older one deleted. A
kill at any moment therefore leaves the newest complete checkpoint intact. A power cut or a full disk can leave a
checkpoint incomplete after it was renamed. A run therefore reads the newest checkpoint completely before it resumes; if
it is corrupt, it is quarantined and training resumes from the previous one.
"""

import contextlib
import errno
import itertools
import logging
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint.utils import TMP_DIR_SUFFIX

from driqa_jax.checkpoints.weights import flatten, unflatten
from driqa_jax.errors import UserError
from driqa_jax.io import write_errors

_SPACE = "free some space, or set another --workdir"
Flat = dict[str, jax.Array]  # arrays by path, "quality_encoder/vector/kernel"


class TrainState(NamedTuple):
    """`trainable` and `frozen` partition the parameters by path; `ema` averages `trainable`; `step` int32.

    `nonfinite_code` int32: 0, or the quantity that was not finite at `step`, see `train.step`.
    """

    step: jax.Array
    trainable: Flat
    frozen: Flat
    ema: Flat
    opt_state: Any
    nonfinite_code: jax.Array


def create(params: dict, is_trained: Callable[[str], bool], optimizer: optax.GradientTransformation) -> TrainState:
    """The first state of a run; `is_trained(path)` decides for each parameter."""
    flat = flatten(params)
    trainable = {path: value for path, value in flat.items() if is_trained(path)}
    frozen = {path: value for path, value in flat.items() if path not in trainable}
    # A copy, because the step donates its state and a buffer can be donated only once.
    ema = jax.tree.map(jnp.copy, trainable)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, trainable, frozen, ema, optimizer.init(trainable), jnp.copy(zero))


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


class Checkpoints:
    """The newest `keep` checkpoints under `workdir/checkpoints`; all hosts call all methods together.

    Raises UserError if the folder cannot be written, all its checkpoints are corrupt, or `keep` is below 1.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int = 2):
        if keep < 1:
            raise UserError(
                f"config.checkpoint.keep must be at least 1, got {keep}; with 2 a run resumes even if the newest one "
                "is corrupt"
            )
        self._folder = pathlib.Path(workdir).resolve() / "checkpoints"
        intact = None
        if jax.process_index() == 0:
            self._lock, intact = _lock(self._folder), _clean(self._folder)
        # Only the first host cleans the folder; the others wait here for the step it chose.
        step = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if intact is None else intact)))
        self._newest, self._pending = (None if step < 0 else step), False
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
            item_handlers={"state": ocp.PyTreeCheckpointHandler(), "run": ocp.JsonCheckpointHandler()},
        )

    def latest(self) -> int | None:
        """The step of the newest checkpoint, complete or being saved; None if there is none."""
        return self._newest

    def save(self, state: TrainState, config: ConfigDict, examples: int) -> None:
        """Save in the background; `examples` is the position in the data, counted over all hosts.

        Raises UserError if this save or the previous one failed; earlier checkpoints stay.
        """
        step = int(state.step)
        if step == self._newest:
            return
        run = {"config": config.to_dict(), "examples": examples, "step": step}
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(_stored(state)), run=ocp.args.JsonSave(run))
        with self._reporting():
            self._manager.save(step, args=items, force=True)
        self._newest, self._pending = step, True

    def check(self) -> None:
        """Without waiting, raise UserError if the background save has failed."""
        if self._pending and not self._manager.is_saving_in_progress():
            self._wait()
            self._pending = False

    def shapes(self) -> dict:
        """Shapes and dtypes of the newest state's parameters, nested."""
        saved = self._manager.item_metadata(self.latest())["state"].tree
        leaves = {**saved["trainable"], **saved["frozen"]}
        return unflatten({path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()})

    def restore(self, like: TrainState, sharding: jax.sharding.Sharding) -> TrainState:
        """The newest state, with the shapes of `like`, placed with `sharding`."""
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), _stored(like))
        restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
        item = ocp.args.PyTreeRestore(item=abstract, restore_args=restore_args)
        state = self._manager.restore(self.latest(), args=ocp.args.Composite(state=item))["state"]
        finite = jax.make_array_from_callback((), sharding, lambda index: np.zeros((), np.int32))
        return TrainState(**state, nonfinite_code=finite)

    def run(self) -> dict:
        """The record saved beside the newest state: config, examples, step."""
        return self._manager.restore(self.latest(), args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

    def close(self) -> None:
        """Wait for the background save. Raises UserError as `save` does."""
        self._wait()
        self._manager.close()

    def _wait(self):
        with self._reporting():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _reporting(self):
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            steps = steps_in(self._folder)
            rest = f"the newest one, of step {steps[0]}, is unchanged" if steps else "no checkpoint exists yet"
            raise UserError(
                f"{self._folder}: a checkpoint could not be saved ({_reason(error)}); {rest}. "
                "Fix that and run the same command to resume"
            ) from error


def silence_orbax_tracebacks() -> None:
    """Disable in this process the tracebacks that threads of a failed save print; the error itself is raised."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    default_hook = sys.unraisablehook

    def hook(unraisable):
        # The array store reports every write that ends after its waiter has gone.
        if str(unraisable.exc_value) != "Event loop is closed":
            default_hook(unraisable)

    sys.unraisablehook = hook


def _stored(state: TrainState) -> dict:
    """The saved part of a state. Without `nonfinite_code`, a run that stopped for it tries the step again."""
    return {name: value for name, value in state._asdict().items() if name != "nonfinite_code"}


def _lock(folder: pathlib.Path):
    """Create the folder if needed and lock it for this process; returns the open lock file."""
    with write_errors(folder, _SPACE):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(f"{folder}: another run is saving here; wait until it ends, or set another --workdir") from None
    except (OSError, ImportError):  # the file system or the operating system has no such locks
        pass
    return file


def _clean(folder: pathlib.Path) -> int | None:
    """Remove unfinished writes and quarantine corrupt checkpoints; returns the newest intact step."""
    with write_errors(folder, _SPACE):
        for unfinished in folder.glob(f"*{TMP_DIR_SUFFIX}*"):
            shutil.rmtree(unfinished)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
        step, _, _, corrupt = newest(folder)
        for other, why in corrupt.items():
            target = _quarantine(folder, other)
            print(f"checkpoint {other} is corrupt ({why}): moved to {target}", file=sys.stderr)
    return step


def _quarantine(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Move a checkpoint to `broken-checkpoints` beside its folder; returns its new path."""
    target = folder.parent / "broken-checkpoints" / str(step)
    target.parent.mkdir(exist_ok=True)
    numbers = itertools.count(2)
    while target.exists():
        target = target.with_name(f"{step}-{next(numbers)}")
    return (folder / str(step)).rename(target)


def _reason(error: Exception) -> str:
    """The cause in a few words."""
    text = " ".join(str(error).split())
    # The array store puts the system's error at the end of a long message.
    known = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
    return getattr(error, "strerror", None) or next((cause for cause in known if cause in text), text[:300])
