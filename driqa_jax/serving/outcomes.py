"""From the pictures of one request to their entries in the answer, through the queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from starlette.requests import ClientDisconnect, Request

from driqa_jax.data.decode import stored_size
from driqa_jax.errors import UnreadableImage
from driqa_jax.serving import answers
from driqa_jax.serving.form import Picture
from driqa_jax.serving.limits import Limits, overloaded
from driqa_jax.serving.queue import FairQueue, Job, Kind, QueueFull
from driqa_jax.serving.worker import Failed, Worker

Entry = dict[str, Any]


async def entries_of(
    request: Request,
    kind: Kind,
    pictures: list[Picture],
    limits: Limits,
    queue: FairQueue,
    worker: Worker,
    describe: Callable[[str, Any], Entry],
) -> tuple[int, list[Entry]]:
    """The status of the answer and one entry a picture, in order.

    The status is 200 where any picture has a score; else what all of them have in common (413 too many pixels, 504
    no time left, 500), or 422. Raises Refused (429) where the queue has no room, ClientDisconnect where nobody waits
    any more.
    """
    refusals = await asyncio.to_thread(lambda: [_refusal(picture, limits.pixels) for picture in pictures])
    jobs = {i: Job(kind, picture.data) for i, picture in enumerate(pictures) if refusals[i] is None}
    try:
        queue.put(list(jobs.values()))
    except QueueFull:
        wait = len(queue) * worker.seconds_per_picture
        raise overloaded(f"{len(queue)} pictures wait already; there is no room for {len(jobs)} more", wait) from None
    await _until_done(request, [job.future for job in jobs.values()], limits.seconds)
    found = []
    for i, picture in enumerate(pictures):
        status, reason = refusals[i] or (200, "")
        if not reason:
            status, value = _outcome(jobs[i].future, limits.seconds)
            if status == 200:
                found.append((200, await asyncio.to_thread(describe, picture.name, value)))
                continue
            reason = value
        found.append((status, answers.failure(picture.name, reason)))
    statuses = {status for status, _ in found}
    status = 200 if 200 in statuses else statuses.pop() if len(statuses) == 1 else 422
    return status, [entry for _, entry in found]


def _refusal(picture: Picture, max_pixels: float) -> tuple[int, str] | None:
    """Why a picture need not be decoded at all, from its header: rubbish shall not wait among real work."""
    if not picture.data:
        return 422, "the file is empty (zero bytes)"
    try:
        height, width = stored_size(picture.data, picture.name)
    except UnreadableImage as error:
        return 422, error.reason
    except MemoryError:
        return 413, "too large for this machine's memory"
    if height * width > max_pixels:
        return 413, (
            f"{width}x{height} is {height * width / 1e6:.1f} megapixels, above this server's {max_pixels / 1e6:g}"
        )
    return None


async def _until_done(request: Request, futures: list[Future], seconds: float) -> None:
    """Wait for all, but not longer than that, nor for a client that has gone; then cancel what has not begun."""
    if not futures:
        return
    loop, left, finished = asyncio.get_running_loop(), len(futures), asyncio.Event()

    def count():
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    def tell(future):
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has whoever waited
            loop.call_soon_threadsafe(count)

    for future in futures:
        future.add_done_callback(tell)
    done, gone = asyncio.ensure_future(finished.wait()), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({done, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not finished.is_set():
            raise ClientDisconnect
    finally:
        done.cancel()
        gone.cancel()
        for future in futures:
            future.cancel()


def _outcome(future: Future, seconds: float) -> tuple[int, Any]:
    if future.cancelled() or not future.done():
        return 504, f"not done within {seconds:g} s"
    error = future.exception()
    if isinstance(error, Failed):
        return error.status, error.reason
    return 200, future.result()
