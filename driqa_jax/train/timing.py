"""Honest timing: compilation, evaluation and saving stay out."""

import contextlib
import time


class Chrono:
    """Examples a second between two readings, without what ran under `paused`.

    Source: the idea of big_vision's `Chrono`.
    """

    def __init__(self):
        self._start, self._lost, self._examples = time.monotonic(), 0.0, 0

    def count(self, examples: int) -> None:
        """These examples were trained on."""
        self._examples += examples

    @contextlib.contextmanager
    def paused(self):
        """What happens here does not count."""
        start = time.monotonic()
        yield
        self._lost += time.monotonic() - start

    def read(self) -> float:
        """Examples a second since the last reading."""
        now = time.monotonic()
        rate = self._examples / max(now - self._start - self._lost, 1e-9)
        self._start, self._lost, self._examples = now, 0.0, 0
        return rate
