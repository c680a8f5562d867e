"""Signals that stop a run: they set a flag, and the loop saves before it ends, in all processes at the same step."""

import os
import signal
from typing import Self

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """While active, SIGTERM and SIGINT set `exit_code` (143, 130); a second SIGINT raises KeyboardInterrupt.

    In a run of several processes JAX listens for SIGTERM and notifies the others; Ctrl-C is forwarded as SIGTERM.
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
