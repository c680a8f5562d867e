"""Signals that ask a run to stop: they raise a flag, and the loop saves before it goes, all hosts at the same step."""

import os
import signal

import jax


class Interrupt:
    """While active, SIGTERM and SIGINT set `exit_code` (143, 130); a second SIGINT interrupts at once.

    In a run of several processes JAX itself listens for SIGTERM and tells the others; Ctrl-C is passed on as one.
    """

    def __init__(self):
        self.exit_code = 0
        self._shared = jax.distributed.is_initialized()

    def __enter__(self):
        # JAX's handler of SIGTERM lies below Python's and would be replaced.
        numbers = (signal.SIGINT,) if self._shared else (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._raise_flag) for number in numbers}
        return self

    def __exit__(self, *unused):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reached(self, round: int) -> bool:
        """Whether to stop here, at the `round`-th time of asking (from 0), the same in all processes."""
        if not self._shared:
            return bool(self.exit_code)
        from jax.experimental import multihost_utils

        # JAX stops all at the first number that none has passed, and 0 counts as passed.
        if not multihost_utils.reached_preemption_sync_point(round + 1):
            return False
        self.exit_code = self.exit_code or 128 + signal.SIGTERM
        return True

    def _raise_flag(self, number, frame):
        if self.exit_code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)
