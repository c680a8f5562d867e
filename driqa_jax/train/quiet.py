"""Silence for what a failed save's threads print: the failure is raised, and told once, in one line."""

import logging
import sys


def failed_saves() -> None:
    """From now on, in the whole process: no tracebacks of Orbax, nor of array writes that it has left behind."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    shown = sys.unraisablehook

    def hook(unraisable):
        # The array store reports so each write that ends after its waiter has gone.
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = hook
