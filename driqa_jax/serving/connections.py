"""Connections that do not last for ever: a client too slow to ask, or to listen, is cut off.

uvicorn times out a connection that idles between requests, but neither one that trickles a header nor one that
never reads its answer.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

_SAID = b'{"error":"the server has no connection left"}'
CROWDED = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_SAID), _SAID)
)
# Far more than there is work for, and fewer than the files that a process may usually open (1024).
MOST = 512


def patient(seconds: float, most: int = MOST) -> type[H11Protocol]:
    """A protocol class for uvicorn.

    A connection ends where `seconds` pass before the header of its first request is whole, or from the first byte of
    what follows a request (the next header, or what is left of a body that was refused) to the next whole header; or
    where a client does not take in its answer for so long. Between requests it may idle as long as uvicorn lets it.
    Beyond `most` connections, each new one is told 429 and closed.
    """

    class Patient(H11Protocol):
        _asking: asyncio.TimerHandle | None = None
        _listening: asyncio.TimerHandle | None = None

        def connection_made(self, transport):
            if len(self.connections) >= most:
                super().connection_made(transport)
                transport.write(CROWDED)
                transport.close()
                return
            super().connection_made(transport)
            self._asking = self.loop.call_later(seconds, transport.abort)

        def handle_events(self):
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._asking = _stopped(self._asking)

        def data_received(self, data):
            if self._asking is None and (self.cycle is None or self.cycle.response_complete):
                self._asking = self.loop.call_later(seconds, self.transport.abort)
            super().data_received(data)

        def send_400_response(self, msg):
            # What follows a good header may still be no HTTP; then whoever works on that request is told to stop,
            # lest it answer a second time.
            working = self.cycle is not None and not self.cycle.response_complete
            if working:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            if working and self.cycle.response_started:
                self.transport.close()
            else:
                super().send_400_response(msg)

        def pause_writing(self):
            super().pause_writing()
            _stopped(self._listening)
            self._listening = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self):
            super().resume_writing()
            self._listening = _stopped(self._listening)

        def connection_lost(self, exc):
            self._asking, self._listening = _stopped(self._asking), _stopped(self._listening)
            super().connection_lost(exc)

    return Patient


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
