"""Sends the images of one request through the queue and returns the entries of the answer."""

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
from driqa_jax.serving.form import Upload
from driqa_jax.serving.limits import Limits, overloaded
from driqa_jax.serving.queue import FairQueue, Job, Kind, QueueFull
from driqa_jax.serving.worker import Failed, Worker

Entry = dict[str, Any]


async def entries_of(
    request: Request,
    kind: Kind,
    uploads: list[Upload],
    limits: Limits,
    queue: FairQueue,
    worker: Worker,
    describe: Callable[[str, Any], Entry],
) -> tuple[int, list[Entry]]:
    """The status of the answer and one entry per image, in order.

    The status is 200 if any image has a score; otherwise the common status of all images (413 too many pixels, 504
    timeout, 500), or 422. Raises Refused (429) if the queue is full, ClientDisconnect if the client has disconnected.
    """
    refusals = await asyncio.to_thread(lambda: [_refusal(upload, limits.pixels) for upload in uploads])
    jobs = {i: Job(kind, upload.data) for i, upload in enumerate(uploads) if refusals[i] is None}
    try:
        queue.put(list(jobs.values()))
    except QueueFull:
        wait = len(queue) * worker.seconds_per_image
        raise overloaded(
            f"{len(queue)} images are waiting already; the queue has no room for {len(jobs)} more", wait
        ) from None
    await _until_done(request, [job.future for job in jobs.values()], limits.seconds)
    outcomes = []
    for i, upload in enumerate(uploads):
        status, reason = refusals[i] or (200, "")
        if not reason:
            status, value = _outcome(jobs[i].future, limits.seconds)
            if status == 200:
                outcomes.append((200, await asyncio.to_thread(describe, upload.name, value)))
                continue
            reason = value
        outcomes.append((status, answers.failure(upload.name, reason)))
    statuses = {status for status, _ in outcomes}
    status = 200 if 200 in statuses else statuses.pop() if len(statuses) == 1 else 422
    return status, [entry for _, entry in outcomes]


def _refusal(upload: Upload, max_pixels: float) -> tuple[int, str] | None:
    """Status and reason of an image that its header rules out, so that it does not occupy the queue; else None."""
    if not upload.data:
        return 422, "the file is empty (zero bytes)"
    try:
        height, width = stored_size(upload.data, upload.name)
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
    """Wait for all futures, at most `seconds`; then cancel those that have not started.

    Raises ClientDisconnect if the client disconnects first.
    """
    if not futures:
        return
    loop, left, finished = asyncio.get_running_loop(), len(futures), asyncio.Event()

    def count():
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    def notify(future):
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(count)

    for future in futures:
        future.add_done_callback(notify)
    done, disconnected = asyncio.ensure_future(finished.wait()), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({done, disconnected}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if disconnected.done() and not finished.is_set():
            raise ClientDisconnect
    finally:
        done.cancel()
        disconnected.cancel()
        for future in futures:
            future.cancel()


def _outcome(future: Future, seconds: float) -> tuple[int, Any]:
    if future.cancelled() or not future.done():
        return 504, f"not finished within {seconds:g} s"
    error = future.exception()
    if isinstance(error, Failed):
        return error.status, error.reason
    return 200, future.result()
