"""What one client may ask for, and what all of them together may hold; and how a request beyond that is refused."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a server; each is an option of `driqa serve`.

    Args:
      request_bytes: of one request's body; more is 413.
      pictures: in one request; more is 413.
      pixels: of one picture, read from its header before it is decoded; more is 413.
      queue: pictures that wait; a request for whose pictures there is no room is 429 at once.
      held_bytes: of all the bodies that are being received, wait or are worked on; beyond it, 429.
      upload_seconds: for a client to send a request, its header and its body each; beyond it, 408 or cut off.
      seconds: from a request's arrival to its answer; beyond it, 504.
      grace_seconds: for what runs when the server is told to stop.
      keep_alive_seconds: that a connection may idle between requests; a proxy's own limit, 60 s as a rule, must be
        shorter, or it sends a request into a connection that is being closed.
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
    """A request that is not served: `status` of HTTP, `reason` for the client, `headers` of the answer."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None):
        self.status, self.reason, self.headers = status, reason, headers or {}
        super().__init__(f"{status}: {reason}")


def overloaded(reason: str, retry_after: float) -> Refused:
    """429, with the whole seconds (at least one) after which to try again."""
    return Refused(429, reason, {"retry-after": str(max(1, round(retry_after)))})


class HeldBytes:
    """The bytes of all bodies that the server holds; used on the event loop alone, so there is no lock."""

    def __init__(self, limit: int):
        self.limit, self.now = limit, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Gives `take(count)`, which raises Refused (429) beyond the limit; what was taken returns at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.now + count > self.limit:
                raise overloaded("the server holds as many bytes of pictures as it may", 2)
            self.now += count
            taken += count

        try:
            yield take
        finally:
            self.now -= taken
