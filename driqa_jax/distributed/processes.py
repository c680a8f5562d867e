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

MEETING = 300  # seconds that the first process waits for the last
HEARTBEAT = 10  # seconds of silence after which a process counts as dead; JAX's own 100 leave the others hanging
FORM = "auto, off, or HOST:PORT,N,I: the address of process 0, the number of processes, this one's own"
# JAX tells a process of another one's death by abort(), under which no Python runs: a shell that outlives the process
# says the last line that it was given, unless that is an empty one.
_LAST_WORDS = 'trap "" INT TERM HUP; while read -r line; do said=$line; done; [ -z "$said" ] || echo "$said" >&2'


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
    few do the others. Where they do not meet, JAX ends the process; what to do is said in either case.

    Raises:
      UserError: `text` is none of the forms.
    """
    where = parse(text)
    if where == "off":
        yield 1
        return
    with subprocess.Popen(["sh", "-c", _LAST_WORDS], stdin=subprocess.PIPE, text=True) as shell:

        def last_words(line: str) -> None:
            print(line, file=shell.stdin, flush=True)

        last_words(
            f"driqa train: {MEETING} s have passed, and the processes have not met. Start the same command in all of "
            "them, and see that they reach process 0; or train in this one alone with --distributed off."
        )
        try:
            count, index = _join(where)
        except UserError:
            last_words("")
            raise
        if count == 1:
            shell.communicate("\n")
            yield 1
            return
        last_words(
            f"driqa train: process {index} of {count} has ended early: it failed, or another process died (the lines "
            "above, or the other processes', say which). Start the same command in all of them to go on from the "
            "newest checkpoint."
        )
        try:
            yield count
        except UserError as error:
            print(f"driqa train: {error}", file=sys.stderr, flush=True)
            last_words("")
            # What is wrong with the command is wrong everywhere: the others get to say so before the first one,
            # which they cannot do without, is gone.
            time.sleep(0 if index else 2)
            os._exit(2)
        except KeyboardInterrupt:
            os._exit(130)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            # The regular end would wait for the others, and they are waiting for this one.
            os._exit(1)
        last_words("")


def _join(where: str | Place) -> tuple[int, int]:
    """The number of processes and this one's own, once all have met; (1, 0) where `auto` finds no cluster."""
    options = {"heartbeat_timeout_seconds": HEARTBEAT, "initialization_timeout": MEETING}
    if where != "auto":
        print(f"process {where.index} of {where.count}, meeting at {where.coordinator}", file=sys.stderr, flush=True)
        options |= dict(zip(("coordinator_address", "num_processes", "process_id"), where, strict=True))
        options["cluster_detection_method"] = "deactivate"
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        # A caller of Python's may have used JAX already: who wants to join has to do so first.
        alone = "coordinator_address should be" in str(error) or "must be called before" in str(error)
        if where != "auto" or not alone:
            raise UserError(f"--distributed: {error}") from error
        print("one process: no cluster was found to join", file=sys.stderr)
        return 1, 0
    # The public module says that there is a cluster, and not how large it is without making JAX look for devices.
    from jax._src.distributed import global_state

    return global_state.num_processes, global_state.process_id


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
