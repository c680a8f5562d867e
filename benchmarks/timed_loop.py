"""Times batches, steps and saves of the real training loop."""

import dataclasses
import itertools
import pathlib
import tempfile
import time
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from driqa_jax.train import loop

WARM = 2  # steps that are not measured: the first compiles, the second finds the prefetched batches


@dataclasses.dataclass(frozen=True)
class LoopTimes:
    """Seconds of a loop of `steps` steps after the first WARM.

    step: mean of a step, from one batch request to the next.
    waiting: sum of the batch requests that were answered when the devices were idle.
    saves: each, from the request to the return.
    """

    steps: int
    step: float
    waiting: float
    saves: list[float]


def time_loop(
    config: ml_collections.ConfigDict,
    params: dict,
    batches: Iterator[dict[str, np.ndarray]] | None,
    steps: int,
    save_every: int = 0,
) -> LoopTimes:
    """Run `driqa_jax.train.loop` for WARM + `steps` steps in a temporary folder.

    Args:
      config: of stage 2; its lengths and intervals are replaced.
      params: nested initial parameters.
      batches: endless; None for those of the configured data.
      steps: at least 1.
      save_every: steps between checkpoints; 0: only the final one, which is not measured.
    """
    config = ml_collections.ConfigDict(config.to_dict())
    config.steps, config.eval_every, config.log_every = WARM + steps, 0, 10
    config.checkpoint.minutes, config.checkpoint.steps = 1e9, save_every
    requests, waits, dispatched, saves = [], [], [], []

    def on_batch(step, requested):
        arrived = time.perf_counter()
        idle = not dispatched or dispatched[-1].is_ready()
        requests.append(requested)
        waits.append(arrived - requested if idle else 0.0)

    def end(params, source):
        # The loop validates as soon as its last step is done.
        requests.append(time.perf_counter())
        return {}

    stage = loop.STAGES[config.stage]
    measured = stage._replace(
        params=lambda *unused: jax.tree.map(jax.numpy.asarray, params),
        batches=lambda *args: itertools.islice(batches or stage.batches(*args), config.steps),
        validate=lambda *unused: end,
    )
    hooks = loop.Hooks(
        on_batch=on_batch,
        on_step=lambda step, metrics: dispatched.append(metrics["loss"]),
        on_save=lambda step, seconds: saves.append(seconds),
    )
    with tempfile.TemporaryDirectory() as folder:
        code = loop.train(config, str(pathlib.Path(folder) / "run"), hooks, measured)
    if code:
        # After a signal or a non-finite value the times are meaningless.
        raise SystemExit(code)
    times = requests[WARM:]
    return LoopTimes(steps, (times[-1] - times[0]) / steps, sum(waits[WARM:]), saves[:-1])
