"""The bounded queue between requests and the worker thread, and the bound on the bytes of all bodies."""

import contextlib
import dataclasses
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal

from starlette.exceptions import HTTPException

Kind = Literal["score", "explain"]


class QueueFull(Exception):
    """The queue has no room for all jobs of a request."""


@dataclasses.dataclass(eq=False)
class Job:
    """One image to score or explain: its encoded bytes and the future of its outcome."""

    kind: Kind
    data: bytes
    future: Future[Any] = dataclasses.field(default_factory=Future)


class FairQueue:
    """Holds the jobs of many requests and returns one of each request in turn.

    The jobs of a request have consecutive turns, from the current one. A request with one image therefore does not wait
    for all images of an earlier request. Thread-safe.
    """

    def __init__(self, limit: int):
        self._limit, self._closed = limit, False
        self._turn, self._arrivals = 0, itertools.count()
        self._heap: list[tuple[int, int, Job]] = []  # turn, arrival, job
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, jobs: list[Job]) -> None:
        """Add all jobs of one request, or none. Raises QueueFull."""
        with self._changed:
            if len(self._heap) + len(jobs) > self._limit:
                self._heap = [entry for entry in self._heap if not entry[2].future.cancelled()]
                heapq.heapify(self._heap)
            if self._closed or len(self._heap) + len(jobs) > self._limit:
                raise QueueFull
            for turn, job in enumerate(jobs, self._turn):
                heapq.heappush(self._heap, (turn, next(self._arrivals), job))
            self._changed.notify()

    def take(self) -> Job | None:
        """Wait for the next job; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                if (job := self._next()) is not None:
                    return job
                self._changed.wait()
            return None

    def take_now(self, kind: Kind) -> Job | None:
        """The next job, if it exists and is of this kind."""
        with self._changed:
            return self._next(kind)

    def close(self) -> None:
        """Cancel all waiting jobs; `take` returns None from now on."""
        with self._changed:
            self._closed, waiting, self._heap = True, self._heap, []
            self._changed.notify_all()
        for _, _, job in waiting:
            job.future.cancel()

    def _next(self, kind: Kind | None = None) -> Job | None:
        while self._heap:
            job = self._heap[0][2]
            if kind not in (None, job.kind) and not job.future.cancelled():
                return None
            self._turn = heapq.heappop(self._heap)[0]
            if job.future.set_running_or_notify_cancel():
                return job
        return None


def overloaded(reason: str, retry_after: float) -> HTTPException:
    """429 with Retry-After in whole seconds, at least one."""
    return HTTPException(429, reason, {"retry-after": str(max(1, round(retry_after)))})


class HeldBytes:
    """The bytes of all bodies in memory. Only the event loop uses it, so it needs no lock."""

    def __init__(self, limit: int):
        self.limit, self.now = limit, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yields `take(count)`, which raises HTTPException (429) above the limit. The bytes are released at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.now + count > self.limit:
                raise overloaded("the server has reached its limit of image bytes; try again later", 2)
            self.now += count
            taken += count

        try:
            yield take
        finally:
            self.now -= taken
