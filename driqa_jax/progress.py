"""How far a long computation is, told on standard error."""

from __future__ import annotations

import contextlib
import sys


class Progress:
    """Tells on standard error how far it is: a live bar on a terminal, elsewhere a line at each tenth."""

    def __init__(self):
        self.told, self._bars, self._tasks, self._tenth = False, None, {}, (None, 0)

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bars = self._stack.enter_context(progress.Progress(*columns, console=Console(stderr=True)))
        return self

    def __exit__(self, *unused) -> None:
        self._stack.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        self.told = True
        if self._bars:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total)
            self._bars.update(self._tasks[what], completed=done)
            return
        tenth = (what, 10 * done // total)
        if tenth != self._tenth:
            self._tenth = tenth
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
