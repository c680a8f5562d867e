"""The bounded queue between requests and the worker thread; it takes one image of each request in turn."""

from __future__ import annotations

import collections
import dataclasses
import threading
from concurrent.futures import Future
from typing import Any, Literal

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

    A request with one image does not wait for all images of an earlier request. Thread-safe.
    """

    def __init__(self, limit: int):
        self._limit, self._closed, self._count = limit, False, 0
        self._requests: collections.deque[collections.deque[Job]] = collections.deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._count

    def put(self, jobs: list[Job]) -> None:
        """Add all jobs of one request, or none. Raises QueueFull."""
        with self._changed:
            if self._count + len(jobs) > self._limit:
                self._forget_cancelled()
            if self._closed or self._count + len(jobs) > self._limit:
                raise QueueFull
            if not jobs:
                return
            self._requests.append(collections.deque(jobs))
            self._count += len(jobs)
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
            self._closed = True
            waiting = [job for request in self._requests for job in request]
            self._requests.clear()
            self._count = 0
            self._changed.notify_all()
        for job in waiting:
            job.future.cancel()

    def _next(self, kind: Kind | None = None) -> Job | None:
        while self._requests:
            request = self._requests[0]
            if kind not in (None, request[0].kind) and not request[0].future.cancelled():
                return None
            self._requests.popleft()
            job = request.popleft()
            self._count -= 1
            if request:
                self._requests.append(request)
            if job.future.set_running_or_notify_cancel():
                return job
        return None

    def _forget_cancelled(self) -> None:
        """Remove cancelled jobs."""
        alive = (collections.deque(job for job in request if not job.future.cancelled()) for request in self._requests)
        self._requests = collections.deque(request for request in alive if request)
        self._count = sum(map(len, self._requests))
