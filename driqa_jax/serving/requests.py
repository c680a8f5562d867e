"""The images of one request: read from its body, sent through the queue, and returned as entries of the answer."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from driqa_jax.data.decode import stored_size
from driqa_jax.errors import UnreadableImage
from driqa_jax.serving import answers
from driqa_jax.serving.limits import Limits
from driqa_jax.serving.worker import Job, Kind, QueueFull, Worker, overloaded

Entry = dict[str, Any]
Describe = Callable[[str, Any], Entry]  # maps the name and the outcome of an image to its entry
_LONGEST_NAME = 255
_ACCEPTED = "send one image as image/* or application/octet-stream, or several as files of a multipart/form-data"


class Upload(NamedTuple):
    """An uploaded image: the client's name for it, which is never used as a path, and its encoded bytes."""

    name: str
    data: bytes


def uploads_in(body: bytes, content_type: str, most: int) -> list[Upload]:
    """The images of a request's body, at least one.

    Raises HTTPException: 415 for another content type, 400 for a form that is damaged or has no file, 413 for more
    than `most` files.
    """
    check_content_type(content_type)
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return [Upload("picture", body)]
    if not options.get(b"boundary"):
        raise HTTPException(400, "the content type of the form has no boundary")
    uploads: list[Upload] = []
    ends: list[bool] = []

    def add(file: File) -> None:
        if len(uploads) == most:
            raise HTTPException(413, f"more than {most} images in one request")
        name = clean(file.file_name.decode("utf-8", "replace")) or "picture"
        uploads.append(Upload(name, file.file_object.getvalue()))

    def reject(field: object) -> None:
        raise HTTPException(400, "a part of the form has no file name; every part must be an image file")

    try:
        parser = FormParser(
            "multipart/form-data",
            on_field=reject,
            on_file=add,
            on_end=lambda: ends.append(True),
            boundary=options[b"boundary"],
            config={"MAX_MEMORY_FILE_SIZE": math.inf},  # the body is limited; its files stay off the disk
        )
        try:
            parser.write(body)
            parser.finalize()
        finally:
            parser.parser = None  # breaks a reference cycle that keeps the images in memory after the answer
    except FormParserError as error:
        raise HTTPException(400, f"the form is damaged: {clean(str(error))}") from None
    if not ends:
        raise HTTPException(400, "the form is cut off: its last boundary is missing")
    if not uploads:
        raise HTTPException(400, "the form contains no image")
    return uploads


def check_content_type(content_type: str) -> None:
    """Raises HTTPException (415) for a type without images. An empty type counts as application/octet-stream."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "multipart/form-data"):
        raise HTTPException(415, f"the content type {clean(kind)} contains no images: {_ACCEPTED}")


def clean(name: str) -> str:
    """Text of a client that is safe to return: printable characters on one line, of limited length."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


async def read_body(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """The whole body. `take` is called with the size of each chunk before the chunk is kept, and may raise.

    Raises HTTPException: 413 above `limits.request_bytes` (at once if the header says so), 408 after
    `limits.upload_seconds`.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.request_bytes:
        raise _too_long(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.request_bytes:
                    raise _too_long(limits)
                take(len(chunk))
                body += chunk
    except TimeoutError:
        reason = f"the body took longer than {limits.upload_seconds:g} s to arrive"
        raise HTTPException(408, reason, {"connection": "close"}) from None
    return bytes(body)


def _too_long(limits: Limits) -> HTTPException:
    return HTTPException(413, f"the body is longer than {limits.request_bytes} bytes; send fewer or smaller images")


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
