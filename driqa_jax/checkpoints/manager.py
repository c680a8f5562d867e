"""Checkpoints of a training run, by Orbax: the state, the place in the data, the configuration.

One is written beside its place and renamed once it is whole, and only then does an older one go: a kill at any moment
leaves the newest whole one as it is. The folder is the workdir's alone; `wholeness` finds what a power cut has torn.
"""

import contextlib
import errno
import os
import pathlib
import shutil
import sys
import tempfile

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.utils import TMP_DIR_SUFFIX

from driqa_jax.checkpoints import integrity
from driqa_jax.checkpoints.state import TrainState, merge
from driqa_jax.errors import UserError


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, the newest `keep` of them; all hosts call all methods together.

    On opening, a newest one that is not whole is set aside, which standard error tells, and the one before is used.

    Raises:
      UserError: the folder cannot be written, none of its checkpoints is whole, or `keep` is below 1.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int = 2):
        if keep < 1:
            raise UserError(f"config.checkpoint.keep={keep}: keep at least 1, and 2 to go on where the newest is torn")
        self._folder = pathlib.Path(workdir).resolve() / "checkpoints"
        newest = None
        if jax.process_index() == 0:
            self._lock, newest = _claimed(self._folder), _tidied(self._folder)
        # The first host alone has looked and tidied; the others wait here for what it found.
        found = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if newest is None else newest)))
        self._newest, self._pending = (None if found < 0 else found), False
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
            item_handlers={"state": ocp.PyTreeCheckpointHandler(), "run": ocp.JsonCheckpointHandler()},
        )

    def latest(self) -> int | None:
        """The step of the newest checkpoint, whole or being saved; None where there is none."""
        return self._newest

    def save(self, state: TrainState, config: ml_collections.ConfigDict, examples: int) -> None:
        """Save in the background; `examples` is the position in the data, the examples of all hosts so far.

        Raises:
          UserError: this save or the one before has failed; what was saved earlier stays.
        """
        step = int(state.step)
        if step == self._newest:
            return
        run = {"config": config.to_dict(), "examples": examples, "step": step}
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(_stored(state)), run=ocp.args.JsonSave(run))
        with self._told():
            self._manager.save(step, args=items, force=True)
        self._newest, self._pending = step, True

    def check(self) -> None:
        """Without waiting: has what was being saved failed? Raises UserError as `save` does."""
        if self._pending and not self._manager.is_saving_in_progress():
            self._wait()
            self._pending = False

    def shapes(self) -> dict:
        """Shapes and dtypes of the newest state's parameters, nested."""
        saved = self._manager.item_metadata(self.latest())["state"].tree
        leaves = {**saved["trainable"], **saved["frozen"]}
        return merge({path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()})

    def restore(self, like: TrainState, sharding: jax.sharding.Sharding) -> TrainState:
        """The newest state, of the shapes of `like`, placed as `sharding` says."""
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), _stored(like))
        placed = ocp.checkpoint_utils.construct_restore_args(abstract)
        state = ocp.args.PyTreeRestore(item=abstract, restore_args=placed)
        found = self._manager.restore(self.latest(), args=ocp.args.Composite(state=state))["state"]
        none = jax.make_array_from_callback((), sharding, lambda index: np.zeros((), np.int32))
        return TrainState(**found, trouble=none)

    def run(self) -> dict:
        """What was saved beside the newest state: config, examples, step."""
        return self._manager.restore(self.latest(), args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

    def close(self) -> None:
        """Wait for what is being saved. Raises UserError as `save` does."""
        self._wait()
        self._manager.close()

    def _wait(self):
        with self._told():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _told(self):
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            left = integrity.steps_in(self._folder)
            stays = f"the newest is of step {left[0]} and stays as it is" if left else "there is none yet"
            raise UserError(
                f"{self._folder}: a checkpoint could not be saved ({_reason(error)}); {stays}. "
                "Mend that, and run the same command to go on"
            ) from error


def _stored(state: TrainState) -> dict:
    """What is saved of a state: all but `trouble`, so that a run that stopped for it tries that step again."""
    return {name: value for name, value in state._asdict().items() if name != "trouble"}


def load_for_scoring(workdir: str | pathlib.Path) -> tuple[dict, dict]:
    """Averaged parameters of a run (nested, numpy), and what a weights file's header would say of them.

    Nothing is written, so that a run under way can be looked at. A newest checkpoint that is not whole is passed over,
    which is said on standard error.

    Raises:
      UserError: the folder holds no checkpoint, or no whole one.
    """
    from driqa_jax.checkpoints.metadata import describe

    folder = pathlib.Path(workdir).resolve() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir}: no training run (a folder with checkpoints/) here")
    step, state, run, torn = integrity.newest(folder, ("ema", "frozen"))
    if step is None:
        raise UserError(f"{workdir}: the run has saved no checkpoint yet")
    for other, why in torn.items():
        print(f"{folder / str(other)} is not whole ({why}): taking step {step}", file=sys.stderr)
    return merge(state["ema"], state["frozen"]), describe(run)


def _claimed(folder: pathlib.Path):
    """The folder's lock, an open file: made where there is none, and this process's alone."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(f"{folder}: another run is saving here; wait for its end, or give another --workdir") from None
    except (OSError, ImportError):  # a file system, or a system, without such locks
        pass
    return file


def _tidied(folder: pathlib.Path) -> int | None:
    """Remove what a kill left half written, set torn checkpoints aside; returns the newest one's step."""
    with _writing(folder):
        for half in folder.glob(f"*{TMP_DIR_SUFFIX}*"):
            shutil.rmtree(half)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
        step, _, _, torn = integrity.newest(folder)
        for other, why in torn.items():
            place = integrity.set_aside(folder, other)
            print(f"checkpoint {other} is not whole ({why}): set aside as {place}", file=sys.stderr)
    return step


@contextlib.contextmanager
def _writing(folder):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({_reason(error)}); make room there, or give another --workdir"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    said = " ".join(str(error).split())
    # The array store reports the system's errors at the end of long messages of its own.
    known = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
    return getattr(error, "strerror", None) or next((text for text in known if text in said), said[:300])
