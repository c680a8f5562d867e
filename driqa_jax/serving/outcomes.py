"""Sends the images of one request through the queue and returns the entries of the answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from driqa_jax.data.decode import stored_size
from driqa_jax.errors import UnreadableImage
from driqa_jax.serving import answers
from driqa_jax.serving.form import Upload
from driqa_jax.serving.limits import Limits
from driqa_jax.serving.worker import Job, Kind, QueueFull, Worker, overloaded

Entry = dict[str, Any]
Describe = Callable[[str, Any], Entry]  # maps the name and the outcome of an image to its entry


async def entries_of(
    request: Request, kind: Kind, uploads: list[Upload], limits: Limits, worker: Worker, describe: Describe
) -> tuple[int, list[Entry]]:
    """The status of the answer and one entry per image, in order.

    The status is 200 if any image has a score; otherwise the common status of all images (413 too many pixels, 504
    timeout, 500), or 422. Raises HTTPException (429) if the queue is full, ClientDisconnect if the client disconnects.
    """
    refusals = await asyncio.to_thread(lambda: [_refusal(upload, limits.pixels) for upload in uploads])
    jobs = [refusal or Job(kind, upload.data) for upload, refusal in zip(uploads, refusals, strict=True)]
    accepted = [job for job in jobs if isinstance(job, Job)]
    try:
        worker.queue.put(accepted)
    except QueueFull:
        waiting = len(worker.queue)
        reason = f"{waiting} images are waiting already; the queue has no room for {len(accepted)} more"
        raise overloaded(reason, waiting * worker.seconds_per_image) from None
    await _until_done(request, [job.future for job in accepted], limits.seconds)
    statuses, entries = [], []
    for upload, job in zip(uploads, jobs, strict=True):
        outcome = _outcome(job.future, limits.seconds) if isinstance(job, Job) else job
        if isinstance(outcome, HTTPException):
            statuses.append(outcome.status_code)
            entries.append(answers.failure(upload.name, outcome.detail))
        else:
            statuses.append(200)
            entries.append(await asyncio.to_thread(describe, upload.name, outcome))
    different = set(statuses)
    return (200 if 200 in different else different.pop() if len(different) == 1 else 422), entries


def _refusal(upload: Upload, max_pixels: float) -> HTTPException | None:
    """Why an image's header rules it out, so that it does not occupy the queue; else None."""
    if not upload.data:
        return HTTPException(422, "the file is empty (zero bytes)")
    try:
        height, width = stored_size(upload.data, upload.name)
    except UnreadableImage as error:
        return HTTPException(422, error.reason)
    except MemoryError:
        return HTTPException(413, "too large for this machine's memory")
    if height * width <= max_pixels:
        return None
    megapixels = f"{height * width / 1e6:.1f} megapixels"
    return HTTPException(413, f"{width}x{height} is {megapixels}, above this server's {max_pixels / 1e6:g}")


async def _until_done(request: Request, futures: list[Future[Any]], seconds: float) -> None:
    """Wait for all futures, at most `seconds`; then cancel those that have not started.

    Raises ClientDisconnect if the client disconnects first.
    """
    waiting = [asyncio.wrap_future(future) for future in futures]
    finished = asyncio.gather(*waiting, return_exceptions=True)
    disconnected = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({finished, disconnected}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if disconnected.done() and not finished.done():
            raise ClientDisconnect
    finally:
        for future in (disconnected, *waiting):
            future.cancel()


def _outcome(future: Future[Any], seconds: float) -> Any:
    """The result of a job, or an HTTPException."""
    if future.cancelled() or not future.done():
        return HTTPException(504, f"not finished within {seconds:g} s")
    error = future.exception()
    return error if isinstance(error, HTTPException) else future.result()
