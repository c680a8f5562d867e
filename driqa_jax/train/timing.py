"""Honest timing: compilation, evaluation and saving stay out."""

import contextlib
import time


class Chrono:
    """Examples a second between two readings, without what ran under `paused`.

    Source: the idea of big_vision's `Chrono`.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """What was before does not count."""
        self._start, self._lost, self._examples = time.monotonic(), 0.0, 0

    def count(self, examples: int) -> None:
        """These examples were trained on, in time that was not paused."""
        self._examples += examples

    @contextlib.contextmanager
    def paused(self):
        """What happens here does not count."""
        start = time.monotonic()
        yield
        self._lost += time.monotonic() - start

    def read(self) -> float | None:
        """Examples a second since the last reading; None where there were none."""
        seconds = time.monotonic() - self._start - self._lost
        rate = self._examples / seconds if self._examples and seconds > 0 else None
        self.restart()
        return rate
