"""Limits of one request and of all requests together. Importing them needs no extra."""

import dataclasses
from typing import Any

MIB = 2**20


def _limit(default: float, option: str, about: str) -> Any:
    """A field of `Limits` with its option of `driqa serve`."""
    return dataclasses.field(default=default, metadata={"option": option, "help": f"{about} (default: {default})"})


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a server. Each is an option of `driqa serve`, whose help says what it limits.

    An answer has status 413 above `request_bytes`, `pictures` or `pixels` (--max-pixels, of one image, from its header
    before decoding); 429 above `queue` or `held_bytes`, which counts all bodies that are received, waiting or
    processed; 504 after `seconds`; and 408, or none on a closed connection, after `upload_seconds`.
    """

    request_bytes: int = _limit(64 * MIB, "--max-bytes", "bytes of one request")
    pictures: int = _limit(32, "--max-pictures", "images in one request")
    pixels: float = 100e6
    queue: int = _limit(256, "--max-queue", "waiting images; above it the answer is 429")
    held_bytes: int = _limit(512 * MIB, "--max-held-bytes", "bytes of all requests together")
    seconds: float = _limit(60, "--timeout", "seconds for an answer")
    upload_seconds: float = _limit(
        30, "--upload-timeout", "seconds for a client to send a header, send a body, or read an answer"
    )
    # A proxy with a longer limit may send a request on a connection that this server is closing.
    keep_alive_seconds: float = _limit(
        75, "--keep-alive", "idle seconds of a connection; must exceed a proxy's limit, usually 60"
    )
    grace_seconds: float = _limit(10, "--grace", "seconds for running requests after a stop signal")


OPTIONS = tuple(field for field in dataclasses.fields(Limits) if field.metadata)
