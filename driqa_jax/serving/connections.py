"""Time limits of connections: a client that sends or reads too slowly is disconnected.

uvicorn has a timeout for connections that idle between requests, but none for a client that sends its header byte by
byte or that never reads its answer.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

_BODY = b'{"error":"the server has too many connections"}'
CROWDED = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
# Below the usual limit of open files in a process (1024).
MAX_CONNECTIONS = 512


def impatient_protocol(seconds: float) -> type[H11Protocol]:
    """A protocol class for uvicorn.

    A client has `seconds` to send the complete header of its first request. After a request, it has `seconds` from the
    first following byte (of the next header, or of the rest of a refused body) to the next complete header. It also has
    `seconds` to resume reading its answer. uvicorn limits the idle time between requests.
    A connection above `MAX_CONNECTIONS` receives 429 and is closed.
    """

    class ImpatientProtocol(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None
        _read_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport):
            super().connection_made(transport)
            if len(self.connections) > MAX_CONNECTIONS:
                transport.write(CROWDED)
                transport.close()
            else:
                self._header_timer = self.loop.call_later(seconds, transport.abort)

        def handle_events(self):
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._header_timer = _cancelled(self._header_timer)

        def data_received(self, data):
            if self._header_timer is None and (self.cycle is None or self.cycle.response_complete):
                self._header_timer = self.loop.call_later(seconds, self.transport.abort)
            super().data_received(data)

        def send_400_response(self, msg):
            # Invalid HTTP may follow a valid header. Stop the task of that request, so that it does not answer again.
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            if answering and self.cycle.response_started:
                self.transport.close()
            else:
                super().send_400_response(msg)

        def pause_writing(self):
            super().pause_writing()
            _cancelled(self._read_timer)
            self._read_timer = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self):
            super().resume_writing()
            self._read_timer = _cancelled(self._read_timer)

        def connection_lost(self, exc):
            self._header_timer, self._read_timer = _cancelled(self._header_timer), _cancelled(self._read_timer)
            super().connection_lost(exc)

    return ImpatientProtocol


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
