"""From pictures to predictions in input order: decoding ahead on threads, batches of one shape, memory bounded.

At any time there are at most `workers` pictures being decoded (one, where they are large: see
`driqa_jax.data.decode`), and views (about 1.2 MB each) for `workers + (4 + parallel) * batch_size` pictures,
however long the input.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from driqa_jax.errors import reason
from driqa_jax.inference.workers import Workers

View = dict[str, np.ndarray]
Canvas = tuple[int, int]


class Pause:
    """In place of a picture: none is there now. All that is under way is finished before the next is asked for."""


PAUSE = Pause()


def views_in_order(
    items: Iterable[tuple[str, Any] | Pause], see: Callable[[str, Any], View], workers: int
) -> Iterator[tuple[str, View | Exception] | Pause]:
    """`see(name, source)` of every item, made ahead on threads; where that fails, its exception.

    Where `items` itself raises, what came before is finished first.
    """

    def attempt(name, source):
        try:
            return see(name, source)
        except Exception as error:
            return error
        except BaseException as error:  # as a Rust extension's panic; no signal is raised on this thread
            return RuntimeError(f"{type(error).__name__}: {error}")

    pool = Workers(workers, "driqa-decode")
    waiting: collections.deque = collections.deque()

    def next_done():
        name, future = waiting.popleft()
        return name, future.result()

    try:
        for item in _items_then_error(items):
            if isinstance(item, Exception):
                while waiting:
                    yield next_done()
                raise item
            if item is PAUSE:
                while waiting:
                    yield next_done()
                yield PAUSE
                continue
            waiting.append((item[0], pool.submit(attempt, *item)))
            if len(waiting) > workers:
                yield next_done()
        while waiting:
            yield next_done()
    finally:
        pool.stop()  # reached on Ctrl-C as well: what has not begun to decode never will


def _items_then_error(items: Iterable[Any]) -> Iterator[Any]:
    """The items, and the exception that ended them, if one did."""
    try:
        yield from items
    except Exception as error:
        yield error


class ModelFailure(RuntimeError):
    """The device or the program failed at a batch, as where memory ran out; the picture is not to blame."""


@dataclasses.dataclass
class _Place:
    """A picture's place in the output: an error, or a row of a batch once that is launched."""

    name: str
    canvas: Canvas | None = None
    error: Exception | None = None
    batch: Future | None = None
    row: int = 0

    @property
    def known(self) -> bool:
        return self.error is not None or self.batch is not None

    def outcome(self) -> np.ndarray | Exception:
        if self.error is not None:
            return self.error
        try:
            return np.asarray(self.batch.result())[self.row]
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
    """Predictions of views, batched by canvas, in input order.

    `run` takes a batch, always of `batch_size` rows (a batch that is not full repeats its last view), and
    gives an array (batch_size, ...), which may still be under way; a row of it is a picture's prediction. It is
    called on `parallel` threads; one batch more waits. Where it raises, each picture of the batch gets a ModelFailure.
    Where `views` raises, what came before is finished first.
    """
    pool, in_flight = Workers(parallel, "driqa-device"), parallel + 1
    order: collections.deque[_Place] = collections.deque()
    gathered: dict[Canvas, list[tuple[_Place, View]]] = {}
    launched: collections.deque = collections.deque()

    def launch(canvas: Canvas) -> None:
        rows = gathered.pop(canvas)
        batch = pool.submit(run, _stacked([view for _, view in rows], batch_size))
        for row, (place, _) in enumerate(rows):
            place.batch, place.row = batch, row
        launched.append(batch)
        if len(launched) > in_flight:
            with contextlib.suppress(Exception):  # each picture of the batch reports it
                np.asarray(launched.popleft().result())  # waits

    def all_of_them():
        while order:
            if not order[0].known:
                launch(order[0].canvas)
            done = order.popleft()
            yield done.name, done.outcome()

    try:
        for item in _items_then_error(views):
            if item is PAUSE or isinstance(item, Exception):
                yield from all_of_them()
                if item is PAUSE:
                    continue
                raise item
            name, view = item
            place = _Place(name)
            order.append(place)
            if isinstance(view, Exception):
                place.error = view
            else:
                place.canvas = view["whole"].shape[:2]
                rows = gathered.setdefault(place.canvas, [])
                rows.append((place, view))
                if len(rows) == batch_size:
                    launch(place.canvas)
            if len(order) > 4 * batch_size and not order[0].known:
                launch(order[0].canvas)  # its like are rare here; the others shall not wait for ever
            while order and order[0].known and (order[0].error is not None or len(order) > in_flight * batch_size):
                done = order.popleft()
                yield done.name, done.outcome()
        yield from all_of_them()
    finally:
        pool.stop()


def _stacked(views: list[View], rows: int) -> View:
    views = views + [views[-1]] * (rows - len(views))
    return {key: np.stack([view[key] for view in views]) for key in views[0]}
