"""Signals that ask a run to stop: they raise a flag, and the loop saves before it goes."""

import signal


class Interrupt:
    """While active, SIGTERM and SIGINT set `exit_code` (143, 130); a second SIGINT interrupts at once."""

    def __init__(self):
        self.exit_code = 0

    def __enter__(self):
        self._before = {number: signal.signal(number, self._raise_flag) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *unused):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise_flag(self, number, frame):
        if self.exit_code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
