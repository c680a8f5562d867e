"""The one thread that owns the scorer: whatever waits is scored together, as `Scorer.stream` batches it."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from driqa_jax.errors import UnreadableImage
from driqa_jax.serving.queue import FairQueue, Job

_log = logging.getLogger("driqa.serve")
_MEMORY = 0.9  # of the running mean of the time a picture takes


class Failed(Exception):
    """A picture that has no outcome: `status` as of HTTP, `reason` for the client."""

    def __init__(self, status: int, reason: str):
        self.status, self.reason = status, reason
        super().__init__(reason)


class Worker:
    """Takes jobs from a queue and sets their futures, on a thread of its own.

    It is `ready` once it has scored a picture of each canvas: no score waits for the compiler. Another thread then
    compiles what explaining needs.

    Args:
      scorer: a `driqa_jax.Scorer`.
      queue: where the jobs come from.
      shown_pixels: explained pictures are shown, and restored, with at most so many.
      on_failure: called, on the thread, where that must end: the very first pictures failed, say.

    A future gets the `Result` of a score, the `Explanation` of a picture, or Failed.
    """

    def __init__(
        self, scorer: Any, queue: FairQueue, shown_pixels: float, on_failure: Callable[[], None] = lambda: None
    ):
        self._scorer, self._queue, self._shown_pixels = scorer, queue, shown_pixels
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name="driqa-worker", daemon=True)
        self._compiler = threading.Thread(target=self._compile_explaining, name="driqa-compiler", daemon=True)
        self.ready = threading.Event()
        self.failure: Exception | None = None
        self.seconds_per_picture = 0.1  # a guess until the first have been timed

    def start(self) -> None:
        """Score a first few pictures, then work until `stop`."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Cancel what waits, and let what runs finish; False where a thread is still at work after that."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not (self._thread.is_alive() or self._compiler.is_alive())

    def _run(self) -> None:
        try:
            self._scorer(self._grey())
            self._compiler.start()
            self.ready.set()
            while (job := self._queue.take()) is not None:
                self._work_from(job)
        except Exception as error:
            # A server that answers 503 for ever helps nobody.
            _log.exception("the worker ends")
            self.failure = error
            self.ready.clear()
            self._on_failure()

    def _work_from(self, job: Job) -> None:
        began = time.monotonic()
        for _ in self._explained(job) if job.kind == "explain" else self._scored(job):
            ended = time.monotonic()
            self.seconds_per_picture += (1 - _MEMORY) * (ended - began - self.seconds_per_picture)
            began = ended

    def _grey(self) -> list[np.ndarray]:
        """A small picture for each canvas, the commonest form first."""
        canvases = sorted(self._scorer.rule.canvases, key=lambda canvas: -canvas[1] / canvas[0])
        return [np.full((height // 4, width // 4, 3), 128, np.uint8) for height, width in canvases]

    def _compile_explaining(self) -> None:
        try:
            for picture in self._grey():
                self._scorer.explain(picture, shown_pixels=self._shown_pixels)
        except Exception:
            _log.exception("explaining could not be compiled ahead")

    def _scored(self, first: Job) -> Iterator[None]:
        """Score this job and all that wait behind it, up to the first that is none of scoring."""
        taken: collections.deque[Job] = collections.deque()

        def pictures():
            job: Job | None = first
            while job is not None:
                taken.append(job)
                yield job.data
                job = self._queue.take_now("score")

        try:
            for result in self._scorer.stream(pictures()):
                job = taken.popleft()
                if result.error is None:
                    job.future.set_result(result)
                elif result.internal:
                    job.future.set_exception(_unexpected(result.error))
                else:
                    job.future.set_exception(Failed(422, result.error))
                yield
        except Exception as error:
            # A device out of memory, say: those who wait are told, and the next may fare better.
            for job in taken:
                job.future.set_exception(_unexpected(error))

    def _explained(self, job: Job) -> Iterator[None]:
        try:
            job.future.set_result(self._scorer.explain(job.data, name="picture", shown_pixels=self._shown_pixels))
        except UnreadableImage as error:
            job.future.set_exception(Failed(422, error.reason))
        except Exception as error:
            job.future.set_exception(_unexpected(error))
        yield


def _unexpected(error: Exception | str) -> Failed:
    _log.error("a picture failed: %s", error, exc_info=error if isinstance(error, Exception) else None)
    return Failed(500, "the server failed at this picture; its log says more")
