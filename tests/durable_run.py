"""A training of a second, to be killed: the real loop, data, optimizer and checkpoints, a model of one layer.

python tests/durable_run.py WORKDIR [--kill POINT] [--pause SECONDS] [--devices N] [KEY=VALUE ...]

`--kill` ends the process with SIGKILL at a named point, the third time that it is reached:
  write    while the arrays of a checkpoint are being written
  commit   all is written, nothing is renamed yet
  renamed  renamed; the older checkpoint not yet deleted
  delete   one file of the older checkpoint is deleted, the others are not
  log      half a line of metrics.jsonl is written
`--pause` is the least time of a step.
"""

import argparse
import os
import pathlib
import signal
import sys
import time

import jax

POINTS = ("write", "commit", "renamed", "delete", "log")


def configured(**changes):
    """42 steps on generated pictures, a checkpoint after every third."""
    from driqa_jax.degradations import NAMES
    from driqa_jax.train.config import default

    config = default()
    config.model.types, config.model.variant = NAMES, "tiny"
    config.data.kind, config.data.fake_count, config.data.threads = "fake", 24, 1
    config.view.short, config.view.canvas, config.view.tile = 32, (32, 32), 32
    config.batch_size, config.steps, config.log_every, config.eval_every = 4, 42, 1, 6
    config.checkpoint.steps = 3
    config.optim.frozen = ("frozen/*",)
    config.update_from_flattened_dict(changes)
    return config


def stage():
    """A finetuning whose model is one random layer, which stays, and one that learns, with dropout."""
    import jax.numpy as jnp

    from driqa_jax import distributed
    from driqa_jax.train import rng
    from driqa_jax.train.stages import finetune
    from driqa_jax.train.stages.registry import STAGES

    def params(config, model, source):
        keys = jax.random.split(rng.stream(config.seed, "init"))
        return {
            "frozen": {"kernel": jax.random.normal(keys[0], (3072, 128)) / 55.0},
            "trained": {"kernel": jax.random.normal(keys[1], (128, 128)) / 11.0, "out": jnp.zeros((128,))},
        }

    def predict(params, batch, keys=None):
        x = (batch["whole"] / 255.0).reshape(batch["whole"].shape[0], -1)
        hidden = jnp.tanh(x @ params["frozen"]["kernel"])
        hidden = jnp.tanh(hidden @ params["trained"]["kernel"])
        if keys is not None:
            hidden = hidden * jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, hidden.shape[1:]))(keys)
        return hidden @ params["trained"]["out"]

    def make_loss(config, model):
        def loss(params, batch, step):
            keys = rng.per_example(rng.stream(config.seed, "dropout", step), batch["index"])
            error = distributed.gather(jnp.square(predict(params, batch, keys) - batch["mos"])).mean()
            first = distributed.gather(batch["index"])[0]
            return distributed.share(error), {"first_example": distributed.share(first.astype(jnp.float32))}

        return loss

    def validate(config, model, mesh):
        return lambda params, source: {"val_out": float(jnp.abs(params["trained"]["out"]).sum())}

    return STAGES["finetune"]._replace(params=params, batches=finetune.batches, make_loss=make_loss, validate=validate)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(point):
    """Have the process kill itself at a named point, the third time that it gets there."""
    from orbax.checkpoint._src.handlers.base_pytree_checkpoint_handler import BasePyTreeCheckpointHandler
    from orbax.checkpoint._src.path.atomicity import AtomicRenameTemporaryPath
    from orbax.checkpoint._src.path.deleter import StandardCheckpointDeleter

    from driqa_jax.train.telemetry import MetricLog

    reached = [0]

    def third():
        reached[0] += 1
        return reached[0] == 3

    def of_step(path):
        return path.get_final().name.isdigit()

    async def write(self, *args, **kwargs):
        if third():
            die()
        return await inner(self, *args, **kwargs)

    async def commit(self):
        if of_step(self) and third():
            die()
        await inner(self)

    async def renamed(self):
        await inner(self)
        if of_step(self) and third():
            die()

    def delete(self, step, target):
        if third():
            os.unlink(next(file for file in pathlib.Path(target).rglob("d/*") if file.is_file()))
            die()
        inner(self, step, target)

    def log(self, step, values):
        if third():
            self._file.write(f'{{"step": {step}, "lo')
            self._file.flush()
            die()
        inner(self, step, values)

    owner, name, outer = {
        "write": (BasePyTreeCheckpointHandler, "_write_metadata_after_commits", write),
        "commit": (AtomicRenameTemporaryPath, "finalize", commit),
        "renamed": (AtomicRenameTemporaryPath, "finalize", renamed),
        "delete": (StandardCheckpointDeleter, "_delete_step_permanently", delete),
        "log": (MetricLog, "write", log),
    }[point]
    inner = getattr(owner, name)
    setattr(owner, name, outer)


def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--kill", choices=POINTS)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("changes", nargs="*")
    args = parser.parse_intermixed_args(argv)
    jax.config.update("jax_num_cpu_devices", args.devices)

    from driqa_jax.checkpoints.manager import silence_orbax_tracebacks
    from driqa_jax.errors import UserError
    from driqa_jax.models import driqa
    from driqa_jax.train import loop

    silence_orbax_tracebacks()
    used = stage()

    def batches(*words):
        for batch in used.batches(*words):
            time.sleep(args.pause)
            yield batch

    loop.STAGES = {"finetune": used._replace(batches=batches)}
    driqa.VARIANTS["tiny"] = lambda config: None
    if args.kill:
        kill_at(args.kill)
    try:
        changes = {key: int(value) for key, value in (change.split("=") for change in args.changes)}
        return loop.train(configured(**changes), args.workdir)
    except UserError as error:
        print(f"driqa train: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    sys.exit(main(sys.argv[1:]))
