"""Runs of several processes, one per host: joining, decisions in common, signals, and the end when one process dies."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from driqa_jax.errors import UserError

MEETING = 300  # seconds that the first process waits for the last one
HEARTBEAT = 10  # seconds without a signal after which a process counts as dead; JAX's default is 100
FORM = "auto, off, or HOST:PORT,N,I: the address of process 0, the number of processes, the number of this one"
# When another process dies, JAX calls abort(), which runs no Python code. A shell that outlives the process prints the
# last line that it received, unless that line is empty.
_LAST_WORDS = 'trap "" INT TERM HUP; while read -r line; do last=$line; done; [ -z "$last" ] || echo "$last" >&2'


class ProcessSpec(NamedTuple):
    """Process `index` (from 0) of `count`; process 0 listens at `coordinator` ("host:port")."""

    coordinator: str
    count: int
    index: int


def parse(text: str) -> str | ProcessSpec:
    """`auto`, `off`, or the spec in HOST:PORT,N,I. Raises UserError for anything else."""
    if text in ("auto", "off"):
        return text
    match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", text)
    if not match:
        raise UserError(f"--distributed {text}: expected {FORM}")
    spec = ProcessSpec(match[1], int(match[2]), int(match[3]))
    if spec.index >= spec.count:
        raise UserError(f"--distributed {text}: processes are numbered from 0 to {spec.count - 1}")
    return spec


@contextlib.contextmanager
def joined(text: str) -> Iterator[int]:
    """Join the processes of a run, see `parse`; yields their number, before JAX initializes devices.

    `auto` asks JAX for its cluster (TPU pods, Slurm, Open MPI, Kubernetes with its client package); without one it
    prints so and continues as one process. A process that fails ends at once, and the others a few seconds after
    `HEARTBEAT`. If the processes do not meet, JAX ends each of them. In both cases the last line says what to do.

    Raises UserError if `text` has none of the forms of `parse`.
    """
    spec = parse(text)
    if spec == "off":
        yield 1
        return
    with subprocess.Popen(["sh", "-c", _LAST_WORDS], stdin=subprocess.PIPE, text=True) as shell:

        def last_words(line: str) -> None:
            print(line, file=shell.stdin, flush=True)

        last_words(
            f"driqa train: the processes did not meet within {MEETING} s. Start the same command in all of them and "
            "check that they reach process 0; or train in this one alone with --distributed off."
        )
        try:
            count, index = _join(spec)
        except UserError:
            last_words("")
            raise
        if count == 1:
            shell.communicate("\n")
            yield 1
            return
        last_words(
            f"driqa train: process {index} of {count} has ended early: it failed, or another one died (see the lines "
            "above and those of the other processes). Start the same command in all of them to resume from the newest "
            "checkpoint."
        )
        try:
            yield count
        except UserError as error:
            print(f"driqa train: {error}", file=sys.stderr, flush=True)
            last_words("")
            # A wrong command fails in all processes. The first one waits so that the others, which depend on it, can
            # print the error too.
            time.sleep(0 if index else 2)
            os._exit(2)
        except KeyboardInterrupt:
            os._exit(130)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            # A regular exit would wait for the other processes, which wait for this one.
            os._exit(1)
        last_words("")


def _join(spec: str | ProcessSpec) -> tuple[int, int]:
    """(number of processes, number of this one) once all have met; (1, 0) if `auto` finds no cluster."""
    options = {"heartbeat_timeout_seconds": HEARTBEAT, "initialization_timeout": MEETING}
    if spec != "auto":
        print(f"process {spec.index} of {spec.count}, meeting at {spec.coordinator}", file=sys.stderr, flush=True)
        options |= dict(zip(("coordinator_address", "num_processes", "process_id"), spec, strict=True))
        options["cluster_detection_method"] = "deactivate"
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        # Python code may have used JAX already, after which a process cannot join others.
        alone = "coordinator_address should be" in str(error) or "must be called before" in str(error)
        if spec != "auto" or not alone:
            raise UserError(f"--distributed: {error}") from error
        print("one process: no cluster was found to join", file=sys.stderr)
        return 1, 0
    # The public API gives these numbers only after it has initialized devices.
    from jax._src.distributed import global_state

    return global_state.num_processes, global_state.process_id


def first_says(flag: bool) -> bool:
    """The flag of process 0, in every process; all must call at the same step."""
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(flag, np.int32)))


class Interrupt:
    """While active, SIGTERM and SIGINT set `exit_code` (143, 130); a second SIGINT raises KeyboardInterrupt.

    The loop saves before it ends, in all processes at the same step. In a run of several processes JAX listens for
    SIGTERM and notifies the others; Ctrl-C is forwarded as SIGTERM.
    """

    def __init__(self):
        self.exit_code = 0
        self._shared = jax.distributed.is_initialized()

    def __enter__(self) -> Self:
        # JAX's SIGTERM handler is set below Python's, which would replace it.
        numbers = (signal.SIGINT,) if self._shared else (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._set_flag) for number in numbers}
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reached(self, number: int) -> bool:
        """Whether to stop at the `number`-th call (from 0); the same answer in all processes."""
        if not self._shared:
            return bool(self.exit_code)
        # JAX stops all processes at the first number that none has passed, and 0 counts as passed.
        if not multihost_utils.reached_preemption_sync_point(number + 1):
            return False
        self.exit_code = self.exit_code or 128 + signal.SIGTERM
        return True

    def _set_flag(self, number, frame):
        if self.exit_code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)
