"""Threads that end with the process: a decoder deep in a large file must not hold up Ctrl-C."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Workers:
    """A pool of daemon threads; `concurrent.futures` has the interpreter wait for its threads when it exits."""

    def __init__(self, count: int, name: str):
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._count = count
        for i in range(count):
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True).start()

    def submit(self, action: Callable[..., Any], *arguments: Any) -> Future:
        """`action(*arguments)` on a thread, in the order of submission."""
        future: Future = Future()
        self._tasks.put((future, action, arguments))
        return future

    def stop(self) -> None:
        """Nothing that has not begun will; threads end after what they do now. Does not wait."""
        try:
            while True:
                self._tasks.get_nowait()[0].cancel()
        except queue.Empty:
            self.stop_when_done()

    def stop_when_done(self) -> None:
        """Threads end after what was submitted so far."""
        for _ in range(self._count):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, action, arguments = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(action(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del task, future, action, arguments  # a picture must not live on while the thread waits
