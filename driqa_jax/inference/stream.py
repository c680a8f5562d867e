"""Images to predictions in input order: threads decode ahead, batches share one shape, memory is bounded.

At most `workers` images are decoded at a time (large ones singly, see `driqa_jax.data.decode`), and at most
`workers + (4 + parallel) * batch_size` views of about 1.2 MB exist, however long the input.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from driqa_jax.data.decode import ImageSource
from driqa_jax.errors import UnreadableImage, reason

View = dict[str, np.ndarray]
Canvas = tuple[int, int]


_MOST_PARALLEL = 8  # each running program holds its activations


def cores() -> int:
    """How many programs to run in parallel: the cores available to this process, at most 8."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, _MOST_PARALLEL)


class Workers:
    """A pool of daemon threads: unlike `concurrent.futures`, a slow decoder delays neither Ctrl-C nor exit."""

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


class Pause:
    """An item that says that no image is available now: finish all pending images before asking for the next."""


PAUSE = Pause()


def named(
    images: Iterable[ImageSource | Pause], names: Iterable[str] | None
) -> Iterator[tuple[str, ImageSource] | Pause]:
    """Items with names for `views_in_order`: those given, or else the path or "item i"."""
    if names is not None:
        yield from zip(names, images, strict=True)
        return
    count = 0
    for image in images:
        if isinstance(image, Pause):
            yield image
            continue
        if isinstance(image, (str, os.PathLike)):
            yield os.fspath(image), image
        else:
            yield image.path if isinstance(image, UnreadableImage) else f"item {count}", image
        count += 1


def views_in_order(
    items: Iterable[tuple[str, Any] | Pause], see: Callable[[str, Any], View], workers: int
) -> Iterator[tuple[str, View | Exception] | Pause]:
    """`see(name, source)` of every item, or the exception it raised, computed ahead on threads.

    If `items` itself raises, all earlier items are finished first.
    """

    def attempt(name, source):
        try:
            return see(name, source)
        except Exception as error:
            return error
        except BaseException as error:  # e.g. the panic of a Rust extension; signals arrive on the main thread
            return RuntimeError(f"{type(error).__name__}: {error}")

    pool = Workers(workers, "driqa-decode")
    waiting: collections.deque = collections.deque()

    def finished(most_waiting=0):
        while len(waiting) > most_waiting:
            name, future = waiting.popleft()
            yield name, future.result()

    try:
        for item in _items_then_error(items):
            if item is PAUSE or isinstance(item, Exception):
                yield from finished()
                if item is not PAUSE:
                    raise item
                yield PAUSE
                continue
            waiting.append((item[0], pool.submit(attempt, *item)))
            yield from finished(workers)
        yield from finished()
    finally:
        pool.stop()  # also on Ctrl-C: cancels what has not started


def _items_then_error(items: Iterable[Any]) -> Iterator[Any]:
    """The items, then the exception that ended them, if any."""
    try:
        yield from items
    except Exception as error:
        yield error


class ModelFailure(RuntimeError):
    """The device or the program failed on a batch, for example for lack of memory; the image is not at fault."""


@dataclasses.dataclass
class _Slot:
    """An image's place in the output. `canvas` is None after an error. `outcome` waits; None before the launch."""

    name: str
    canvas: Canvas | None = None
    outcome: Callable[[], np.ndarray | Exception] | None = None


def _row_of(batch: Future, row: int) -> np.ndarray | Exception:
    try:
        return np.asarray(batch.result())[row]
    except Exception as error:
        failure = ModelFailure(f"the model failed: {reason(error)}")
        failure.__cause__ = error
        return failure


def predictions_in_order(
    views: Iterable[tuple[str, View | Exception] | Pause],
    run: Callable[[View], Any],
    batch_size: int,
    parallel: int = 1,
) -> Iterator[tuple[str, np.ndarray | Exception]]:
    """Predictions of views in input order, batched by canvas.

    Args:
      views: from `views_in_order`. If it raises, all earlier views are finished first.
      run: maps a batch of `batch_size` views (the last view is repeated to fill it) to an array (batch_size, ...), one
        row per image, possibly still being computed. If it raises, each image of the batch gets a ModelFailure.
      batch_size: rows of a batch.
      parallel: threads that call `run`; one more batch may be queued.
    """
    pool, in_flight = Workers(parallel, "driqa-device"), parallel + 1
    order: collections.deque[_Slot] = collections.deque()
    gathered: dict[Canvas, list[tuple[_Slot, View]]] = {}
    launched: collections.deque = collections.deque()

    def launch(canvas: Canvas) -> None:
        rows = gathered.pop(canvas)
        batch = pool.submit(run, stack_views([view for _, view in rows], batch_size))
        for row, (slot, _) in enumerate(rows):
            slot.outcome = functools.partial(_row_of, batch, row)
        launched.append(batch)
        if len(launched) > in_flight:
            with contextlib.suppress(Exception):  # each image of the batch reports it
                np.asarray(launched.popleft().result())  # waits

    def finished():
        while order:
            if order[0].outcome is None:
                launch(order[0].canvas)
            slot = order.popleft()
            yield slot.name, slot.outcome()

    try:
        for item in _items_then_error(views):
            if item is PAUSE or isinstance(item, Exception):
                yield from finished()
                if item is PAUSE:
                    continue
                raise item
            name, view = item
            slot = _Slot(name)
            order.append(slot)
            if isinstance(view, Exception):
                slot.outcome = lambda error=view: error
            else:
                slot.canvas = view["whole"].shape[:2]
                rows = gathered.setdefault(slot.canvas, [])
                rows.append((slot, view))
                if len(rows) == batch_size:
                    launch(slot.canvas)
            if len(order) > 4 * batch_size and order[0].outcome is None:
                launch(order[0].canvas)  # flush a partial batch so that a rare canvas cannot block the queue
            while order and order[0].outcome and (order[0].canvas is None or len(order) > in_flight * batch_size):
                slot = order.popleft()
                yield slot.name, slot.outcome()
        yield from finished()
    finally:
        pool.stop()


def stack_views(views: list[View], rows: int) -> View:
    """A batch of `rows` views; the last view is repeated to fill it."""
    views = views + [views[-1]] * (rows - len(views))
    return {key: np.stack([view[key] for view in views]) for key in views[0]}


def as_several(images: Any) -> tuple[Any, bool]:
    """The images as an iterable, and whether they are several."""
    if isinstance(images, getattr(sys.modules.get("jax"), "Array", ())):  # does not import JAX
        images = np.asarray(images)
    if isinstance(images, np.ndarray):
        several = images.ndim == 4
    elif isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read"):
        several = False
    else:
        several = isinstance(images, Iterable)
    return images if several else [images], several
