"""Limits of one request and of all requests together, and the refusal of a request that exceeds them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a server. Each is an option of `driqa serve`.

    Args:
      request_bytes: bytes of one body; above it 413.
      pictures: images in one request; above it 413.
      pixels: pixels of one image, from its header before decoding; above it 413.
      queue: waiting images; above it 429.
      held_bytes: bytes of all bodies that are received, waiting or processed; above it 429.
      upload_seconds: time to send the header, and time to send the body; above it 408 or a closed connection.
      seconds: time from the arrival of a request to its answer; above it 504.
      grace_seconds: time for running requests after a stop signal.
      keep_alive_seconds: idle time of a connection. A proxy's own limit, usually 60 s, must be shorter; otherwise the
        proxy may send a request on a closing connection.
    """

    request_bytes: int = 64 * MIB
    pictures: int = 32
    pixels: float = 100e6
    queue: int = 256
    held_bytes: int = 512 * MIB
    upload_seconds: float = 30
    seconds: float = 60
    grace_seconds: float = 10
    keep_alive_seconds: float = 75


class Refused(Exception):
    """A refused request or image: HTTP `status`, `reason` for the client, `headers` of the answer."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None):
        self.status, self.reason, self.headers = status, reason, headers or {}
        super().__init__(f"{status}: {reason}")


def overloaded(reason: str, retry_after: float) -> Refused:
    """429 with Retry-After in whole seconds, at least one."""
    return Refused(429, reason, {"retry-after": str(max(1, round(retry_after)))})


class HeldBytes:
    """The bytes of all bodies in memory. Only the event loop uses it, so it needs no lock."""

    def __init__(self, limit: int):
        self.limit, self.now = limit, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Yields `take(count)`, which raises Refused (429) above the limit. The bytes are released at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.now + count > self.limit:
                raise overloaded("the server has reached its limit of image bytes; try again later", 2)
            self.now += count
            taken += count

        try:
            yield take
        finally:
            self.now -= taken
