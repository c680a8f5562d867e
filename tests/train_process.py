"""`driqa train` on the tiny model, as a process of its own: `python train_process.py DEVICES SCENE train ...`.

DEVICES fake ones. SCENE is JSON: `pause`, seconds before each batch; `raise`, [process, batch, signal number], a signal
that this process sends itself before it takes this batch. Each process writes which examples it was given to
`WORKDIR/examples-PROCESS.txt`, a step a line.
"""

import json
import os
import pathlib
import signal
import sys
import time

import jax
from tiny_model import tiny

from driqa_jax.cli.main import entry
from driqa_jax.models import driqa
from driqa_jax.train.stages import registry


def staged(stage, scene, workdir):
    """The stage, its batches written down, delayed and broken off as the scene says."""

    def batches(config, source, start_step, process_index, process_count):
        stream = stage.batches(config, source, start_step, process_index, process_count)
        with open(workdir / f"examples-{process_index}.txt", "a") as file:
            for number, batch in enumerate(stream):
                time.sleep(scene.get("pause", 0.0))
                who, when, what = scene.get("raise", (None, None, None))
                if (who, when) == (process_index, number):
                    os.kill(os.getpid(), signal.Signals(what))
                print(*batch["index"], file=file, flush=True)
                yield batch

    return stage._replace(batches=batches)


if __name__ == "__main__":
    devices, scene, *words = sys.argv[1:]
    folder = pathlib.Path(words[words.index("--workdir") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    driqa.VARIANTS["tiny"] = tiny
    for name, stage in registry.STAGES.items():
        registry.STAGES[name] = staged(stage, json.loads(scene), folder)
    sys.argv[1:] = [*words, "--cpu-devices", devices]
    entry()
