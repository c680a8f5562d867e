"""The bounded queue of a server and the thread that empties it; the bound on the bytes of all bodies.

The thread owns the scorer. It scores waiting images together, in the batches of `Scorer.stream`.
"""

import collections
import contextlib
import dataclasses
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
from starlette.exceptions import HTTPException

from driqa_jax.errors import UnreadableImage

Kind = Literal["score", "explain"]
_log = logging.getLogger("driqa.serve")
_DECAY = 0.9  # of the running mean of the seconds per image


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


class Worker:
    """A thread that takes jobs from a queue and sets their futures.

    It is `ready` once it has scored one image per canvas, so that no request waits for the compiler. Another thread
    then compiles the explanation programs.

    Args:
      scorer: a `driqa_jax.Scorer`.
      queue: the jobs.
      shown_pixels: most pixels of a restored and shown image.
      on_failure: called on the thread if it ends with an error, for example because the first images failed.

    A future receives a `Result`, an `Explanation`, or an HTTPException, whose status and detail say why there is none.
    """

    def __init__(self, scorer: Any, queue: FairQueue, shown_pixels: float, on_failure: Callable[[], None]):
        self._scorer, self.queue, self._shown_pixels = scorer, queue, shown_pixels
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name="driqa-worker", daemon=True)
        self._compiler = threading.Thread(target=self._compile_explaining, name="driqa-compiler", daemon=True)
        self.ready = threading.Event()
        self.failure: Exception | None = None
        self.seconds_per_image = 0.1  # initial guess

    def start(self) -> None:
        """Score one image per canvas, then process jobs until `stop`."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Cancel waiting jobs and wait for the running one; returns False if a thread still runs after `seconds`."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not (self._thread.is_alive() or self._compiler.is_alive())

    def _run(self) -> None:
        try:
            self._scorer(self._gray_images())
            self._compiler.start()
            self.ready.set()
            while (job := self.queue.take()) is not None:
                self._process(job)
        except Exception as error:
            # End the server: it could only answer 503.
            _log.exception("the worker failed")
            self.failure = error
            self.ready.clear()
            self._on_failure()

    def _process(self, job: Job) -> None:
        began = time.monotonic()
        for _ in self._explained(job) if job.kind == "explain" else self._scored(job):
            ended = time.monotonic()
            self.seconds_per_image += (1 - _DECAY) * (ended - began - self.seconds_per_image)
            began = ended

    def _gray_images(self) -> list[np.ndarray]:
        """A small image per canvas, the most common shape first."""
        canvases = sorted(self._scorer.rule.canvases, key=lambda canvas: -canvas[1] / canvas[0])
        return [np.full((height // 4, width // 4, 3), 128, np.uint8) for height, width in canvases]

    def _compile_explaining(self) -> None:
        try:
            for image in self._gray_images():
                self._scorer.explain(image, shown_pixels=self._shown_pixels)
        except Exception:
            _log.exception("the explanation programs could not be compiled at the start")

    def _scored(self, first: Job) -> Iterator[None]:
        """Score this job and the waiting jobs after it, up to the first job of another kind."""
        taken: collections.deque[Job] = collections.deque()

        def images():
            job: Job | None = first
            while job is not None:
                taken.append(job)
                yield job.data
                job = self.queue.take_now("score")

        try:
            for result in self._scorer.stream(images()):
                job = taken.popleft()
                if result.error is None:
                    job.future.set_result(result)
                elif result.internal:
                    job.future.set_exception(_unexpected(result.error))
                else:
                    job.future.set_exception(HTTPException(422, result.error))
                yield
        except Exception as error:
            # For example, the device is out of memory. Fail these jobs; later jobs may succeed.
            for job in taken:
                job.future.set_exception(_unexpected(error))

    def _explained(self, job: Job) -> Iterator[None]:
        try:
            job.future.set_result(self._scorer.explain(job.data, name="picture", shown_pixels=self._shown_pixels))
        except UnreadableImage as error:
            job.future.set_exception(HTTPException(422, error.reason))
        except Exception as error:
            job.future.set_exception(_unexpected(error))
        yield


def _unexpected(error: Exception | str) -> HTTPException:
    _log.error("an image failed: %s", error, exc_info=error if isinstance(error, Exception) else None)
    return HTTPException(500, "the server failed on this image; see its log")
