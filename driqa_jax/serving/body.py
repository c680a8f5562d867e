"""Reading a request's body: not more than it may be, not slower than it may come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from driqa_jax.serving.limits import Limits, Refused


async def read_body(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """The whole body; `take` is told of every byte before it is kept, and may refuse it.

    Raises Refused: 413 for a body longer than `limits.request_bytes` (at once where the header says so), 408 where
    it takes longer than `limits.upload_seconds`; and what `take` raises.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limits.request_bytes:
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
        raise Refused(408, reason, {"connection": "close"}) from None
    return bytes(body)


def _too_long(limits: Limits) -> Refused:
    return Refused(413, f"the body is longer than {limits.request_bytes} bytes; send fewer or smaller pictures")
