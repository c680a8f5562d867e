"""Checkpoints of a training run, by Orbax: the state, the place in the data, the configuration."""

import pathlib

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from driqa_jax.errors import UserError
from driqa_jax.train.state import TrainState, merge


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, newest last."""

    def __init__(self, workdir: str | pathlib.Path, keep: int = 2, create: bool = True):
        folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=create),
            item_handlers={"state": ocp.PyTreeCheckpointHandler(), "run": ocp.JsonCheckpointHandler()},
        )

    def latest(self) -> int | None:
        """The newest whole checkpoint's step; None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, config: ml_collections.ConfigDict, examples: int) -> None:
        """Save in the background; `examples` is the position in the data, the examples of all hosts so far."""
        step = int(state.step)
        if step == self.latest():
            return
        run = {"config": config.to_dict(), "examples": examples, "step": step}
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(_stored(state)), run=ocp.args.JsonSave(run))
        self._manager.save(step, args=items, force=True)

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
        return TrainState(**found, trouble=jax.device_put(np.int32(0), sharding))

    def run(self) -> dict:
        """What was saved beside the newest state: config, examples, step."""
        return self._manager.restore(self.latest(), args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

    def parameters(self) -> dict:
        """The newest averaged parameters, nested, float32 numpy, without the optimizer's state."""
        step = self.latest()
        saved = self._manager.item_metadata(step)["state"].tree
        wanted = {name: dict(saved[name]) for name in ("ema", "frozen")}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        state = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        found = self._manager.restore(step, args=ocp.args.Composite(state=state))["state"]
        return merge(found["ema"], found["frozen"])

    def close(self) -> None:
        """Wait for what is being saved."""
        self._manager.wait_until_finished()
        self._manager.close()


def _stored(state: TrainState) -> dict:
    """What is saved of a state: all but `trouble`, so that a run that stopped for it tries that step again."""
    return {name: value for name, value in state._asdict().items() if name != "trouble"}


def load_for_scoring(workdir: str | pathlib.Path) -> tuple[dict, dict]:
    """Averaged parameters of a run, and what a weights file's header would say of them.

    Raises:
      UserError: the folder holds no checkpoint.
    """
    from driqa_jax.train.describe import describe

    if not (pathlib.Path(workdir) / "checkpoints").is_dir():
        raise UserError(f"{workdir}: no training run (a folder with checkpoints/) here")
    checkpoints = Checkpoints(workdir, create=False)
    if checkpoints.latest() is None:
        raise UserError(f"{workdir}: the run has saved no checkpoint yet")
    params, run = checkpoints.parameters(), checkpoints.run()
    checkpoints.close()
    return params, describe(run)
