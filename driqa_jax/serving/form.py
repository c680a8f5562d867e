"""The body of a request and its images: one image as it is, or several in a multipart form."""

import asyncio
import dataclasses
import math
from collections.abc import Callable

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from driqa_jax.serving.limits import Limits

_LONGEST_NAME = 255
_ACCEPTED = "send one image as image/* or application/octet-stream, or several as files of a multipart/form-data"


@dataclasses.dataclass(frozen=True)
class Upload:
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
