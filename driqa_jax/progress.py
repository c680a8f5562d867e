"""Progress of a long computation on standard error."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

# Called with a task, the number of finished items and the total: ("scoring", 3, 12).
ProgressFn = Callable[[str, int, int], None]


def silent(task: str, done: int, total: int) -> None:
    """A `ProgressFn` that shows nothing."""


def counter(progress: ProgressFn, task: str, total: int, done: int = 0) -> Callable[[], None]:
    """A function to call after each item, when `done` of `total` items are finished already."""
    counts = itertools.count(done + 1)
    return lambda: progress(task, next(counts), total)


class Progress:
    """A `ProgressFn` and context manager: a live bar per task on a terminal, otherwise one line per tenth."""

    def __init__(self):
        self.started = False
        self._bars, self._tasks, self._tenth = None, {}, ("", 0)

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bars = progress.Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, task: str, done: int, total: int) -> None:
        self.started = True
        if self._bars:
            if task not in self._tasks:
                self._tasks[task] = self._bars.add_task(task, total=total)
            self._bars.update(self._tasks[task], completed=done)
            return
        tenth = (task, 10 * done // total)
        if tenth != self._tenth:
            self._tenth = tenth
            print(f"{task}: {done} of {total}", file=sys.stderr, flush=True)
