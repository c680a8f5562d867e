"""A pool of daemon threads, so that a slow decoder does not delay Ctrl-C."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Workers:
    """A thread pool that does not block interpreter exit, unlike `concurrent.futures`."""

    def __init__(self, count: int, name: str):
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._count = count
        for i in range(count):
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True).start()

    def submit(self, action: Callable[..., Any], *arguments: Any) -> Future:
        """Run `action(*arguments)` on a thread; actions start in the order of submission."""
        future: Future = Future()
        self._tasks.put((future, action, arguments))
        return future

    def stop(self) -> None:
        """Cancel what has not started; threads end after their current action. Does not wait."""
        try:
            while True:
                self._tasks.get_nowait()[0].cancel()
        except queue.Empty:
            self.stop_when_done()

    def stop_when_done(self) -> None:
        """Threads end after everything submitted so far. Does not wait."""
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
            del task, future, action, arguments  # release the image while the thread waits
