"""One process a host: joining the others, what they decide together, how they end when one of them dies."""

import contextlib
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from driqa_jax.errors import UserError

HEARTBEAT = 10  # seconds of silence after which a process counts as dead; JAX's own 100 leave the others hanging
FORM = "auto, off, or HOST:PORT,N,I: the address of process 0, the number of processes, this one's own"
# The others are told of a death by abort(), under which no Python runs: a shell that outlives the process speaks.
_LAST_WORDS = 'trap "" INT TERM HUP; read -r ended || printf "%s\\n" "$1" >&2'


class Place(NamedTuple):
    """A process among `count`, the `index`-th, with process 0 listening at `coordinator` ("host:port")."""

    coordinator: str
    count: int
    index: int


def parse(text: str) -> str | Place:
    """`auto`, `off`, or the place in HOST:PORT,N,I. Raises UserError for anything else."""
    if text in ("auto", "off"):
        return text
    found = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", text)
    if not found:
        raise UserError(f"--distributed {text}: expected {FORM}")
    place = Place(found[1], int(found[2]), int(found[3]))
    if place.index >= place.count:
        raise UserError(f"--distributed {text}: processes are numbered from 0 to {place.count - 1}")
    return place


@contextlib.contextmanager
def joined(text: str) -> Iterator[int]:
    """Be one of the processes of a run, as `parse` reads `text`; yields their number, before JAX looks for devices.

    `auto` asks JAX for the cluster that it is on (TPU pods, Slurm, Open MPI, Kubernetes with its client package), and
    is off, saying so, where there is none. A process that fails ends at once, and so within `HEARTBEAT` seconds and a
    few do the others.

    Raises:
      UserError: `text` is none of the forms, or the others were not met.
    """
    where = parse(text)
    if where == "off" or not _join(where):
        yield 1
        return
    from jax._src import distributed  # the public module tells that there is a cluster, not how large it is

    state = distributed.global_state
    words = (
        f"driqa train: process {state.process_id} of {state.num_processes} has ended early: it failed, or another "
        "process died (the lines above or the others' say which). Start the same command in all of them to go on from "
        "the newest checkpoint."
    )
    with subprocess.Popen(["sh", "-c", _LAST_WORDS, "driqa", words], stdin=subprocess.PIPE) as shell:
        try:
            yield state.num_processes
            shell.stdin.write(b"\n")
        except UserError as error:
            print(f"driqa train: {error}", file=sys.stderr, flush=True)
            shell.communicate(b"\n")
            # What is wrong with the command is wrong everywhere: the others get to say so before the first one,
            # which they cannot do without, is gone.
            time.sleep(2.0 if state.process_id == 0 else 0.0)
            os._exit(2)
        except BaseException as error:
            traceback.print_exc()
            sys.stderr.flush()
            # The regular end would wait for the others, and they are waiting for this one.
            os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _join(where: str | Place) -> bool:
    options = {"heartbeat_timeout_seconds": HEARTBEAT}
    if where != "auto":
        print(f"process {where.index} of {where.count}, meeting at {where.coordinator}", file=sys.stderr, flush=True)
        options |= dict(zip(("coordinator_address", "num_processes", "process_id"), where, strict=True))
        options["cluster_detection_method"] = "deactivate"
    try:
        jax.distributed.initialize(**options)
    except ValueError as error:
        if where == "auto" and "coordinator_address" in str(error):
            print("one process: no cluster was found to join", file=sys.stderr)
            return False
        raise UserError(f"--distributed {where}: {error}") from error
    except RuntimeError as error:
        raise UserError(f"--distributed: the processes did not meet: {error}") from error
    return True


def first_says(flag: bool) -> bool:
    """The flag of process 0, in every process; all of them ask at the same step."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(flag, np.int32)))


def gather_hosts(x: np.ndarray) -> np.ndarray:
    """Each host's array, of one shape, stacked: (hosts, *x.shape)."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(x), tiled=False)
