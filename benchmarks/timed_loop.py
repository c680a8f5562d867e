"""The training loop as it is, with a clock at its seams: batches, steps, saves."""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import jax
import ml_collections

from driqa_jax import distributed
from driqa_jax.train import loop

WARM = 2  # batches that do not count: the first step is compiled, the second finds the loader's stock full


@dataclasses.dataclass
class Watched:
    """What a loop of `steps` steps, after the first WARM, took: seconds, all of them.

    `step`: mean of a step, from one request for a batch to the next; `waiting`: sum over steps of the wait for a batch
    that came when the devices had nothing left to do; `saves`: each, from the request to the return.
    """

    steps: int
    step: float
    waiting: float
    saves: list[float]


def watch(config: ml_collections.ConfigDict, params: dict, batches, steps: int, save_every: int = 0) -> Watched:
    """Run `driqa_jax.train.loop` for WARM + `steps` steps in a folder that is thrown away.

    Args:
      config: of stage 2; its lengths and intervals are replaced.
      params: nested, to start from.
      batches: endless iterator of numpy batches, or None for the loop's own.
      steps: at least 1.
      save_every: steps between checkpoints; 0 saves at the end alone, which does not count.
    """
    config = ml_collections.ConfigDict(config.to_dict())
    config.steps, config.eval_every, config.log_every = WARM + steps, 0, 10
    config.checkpoint.minutes, config.checkpoint.steps = 1e9, save_every
    stage, asked, waits, sent, saves = loop.STAGES[config.stage], [], [], [], []

    def clocked(inner) -> Iterator:
        for _ in range(config.steps):
            asked.append(time.perf_counter())
            batch = next(inner)
            arrived = time.perf_counter()
            idle = not sent or sent[-1].is_ready()
            waits.append(arrived - asked[-1] if idle else 0.0)
            yield batch

    def map_step(*args, **kwargs):
        advance = distributed.map_step(*args, **kwargs)

        def run(state, batch):
            state, metrics = advance(state, batch)
            sent.append(metrics["loss"])
            return state, metrics

        return run

    class Checkpoints(loop.Checkpoints):
        def save(self, *args):
            start = time.perf_counter()
            super().save(*args)
            saves.append(time.perf_counter() - start)

    def ended(config, model, mesh):
        # The loop validates as soon as its last step is done.
        return lambda params, source: asked.append(time.perf_counter()) or {}

    watched = stage._replace(
        params=lambda *unused: jax.tree.map(jax.numpy.asarray, params),
        batches=lambda *args: clocked(batches or stage.batches(*args)),
        validate=ended,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(loop.STAGES, {config.stage: watched}),
        mock.patch.object(loop, "distributed", SimpleNamespace(**{**vars(distributed), "map_step": map_step})),
        mock.patch.object(loop, "Checkpoints", Checkpoints),
    ):
        code = loop.train(config, str(pathlib.Path(folder) / "run"))
    if code:
        # A signal, which the loop has heard, or numbers that were not finite: what was measured is of no use.
        raise SystemExit(code)
    times = asked[WARM:]
    return Watched(steps, (times[-1] - times[0]) / steps, sum(waits[WARM:]), saves[:-1])
