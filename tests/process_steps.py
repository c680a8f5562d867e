"""Steps without a model, in a process among several: `python process_steps.py PLACE VICTIM SIGNAL`.

PLACE as `--distributed` has it. Both executors step twice, told as JSON on standard output; then steps go on until the
process is told to stop, which is told as well, and before the fifth the VICTIM sends itself SIGNAL (0: it fails).
"""

import json
import os
import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from driqa_jax import distributed
from driqa_jax.distributed import processes
from driqa_jax.distributed.processes import Interrupt
from driqa_jax.errors import UserError


def step(state, batch):
    seen = distributed.total(batch["x"].sum())
    return {"sum": state["sum"] + seen}, {"seen": seen}


def among_others(victim: int, number: int) -> int:
    mesh, host = distributed.make_mesh(), jax.process_index()
    found = {"devices": mesh.size}
    for name in distributed.EXECUTORS:
        advance = distributed.map_step(step, mesh, name)
        # Of the first host, whatever the others have come to.
        before = run = distributed.replicate({"sum": np.full(2, 100.0 * (1 - host), np.float32)}, mesh)
        for start in (0, 1):
            batch = distributed.place_batch({"x": np.arange(8, dtype=np.float32) + 8 * host + start}, mesh)
            run, metrics = advance(run, batch)
        found[name] = [np.asarray(run["sum"]).tolist(), float(metrics["seen"]), before["sum"].is_deleted()]
    found["batch"] = distributed.to_host(batch["x"]).tolist()
    found["hosts"] = multihost_utils.process_allgather(np.array([host]), tiled=False).tolist()
    found["said"] = [processes.first_says(host == 0), processes.first_says(host == 1)]
    print(json.dumps(found), flush=True)
    steps = 0
    with Interrupt() as interrupt:
        while not interrupt.reached(steps):
            if (host, steps) == (victim, 4):
                if not number:
                    raise OSError("no space left")
                os.kill(os.getpid(), number)
            run, metrics = advance(run, batch)
            float(metrics["seen"])
            steps += 1
            time.sleep(0.1)
    print(json.dumps({"stopped": steps}), flush=True)
    return interrupt.exit_code


if __name__ == "__main__":
    place, victim, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with processes.joined(place) as count:
        distributed.use_cores(8 // count)
        if victim < 0:
            raise UserError("nothing to do")
        sys.exit(among_others(victim, number))
