"""A server on a socket: start, readiness, shutdown, and time limits of connections.

uvicorn has a timeout for connections that idle between requests, but none for a client that sends its header byte by
byte or that never reads its answer. Such a client is disconnected.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from driqa_jax.errors import UserError
from driqa_jax.serving.app import create_app
from driqa_jax.serving.limits import Limits

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


def bound_socket(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening. Raises UserError if the address cannot be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host} port {port}: {reason}; change --host or --port") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url(listener: socket.socket) -> str:
    """The URL of the server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app: FastAPI, limits: Limits) -> uvicorn.Config:
    """The uvicorn configuration."""
    return uvicorn.Config(
        app,
        http=impatient_protocol(limits.upload_seconds),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_seconds)),
        timeout_graceful_shutdown=max(1, round(limits.grace_seconds)),
    )


def serve(scorer: Any, limits: Limits, listener: socket.socket, meaning: Any = None) -> None:
    """Serve until SIGTERM or SIGINT, finish running requests within `limits.grace_seconds`, re-raise the signal.

    A second SIGINT stops at once. `meaning`: see `create_app`. Raises UserError if the worker ends with an error.
    """
    app = create_app(scorer, limits, on_failure=lambda: setattr(server, "should_exit", True), meaning=meaning)
    worker = app.state.service.worker
    server = uvicorn.Server(server_config(app, limits))
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # otherwise it logs every invalid request

    def announce() -> None:
        worker.ready.wait()
        print(f"ready: {url(listener)}", file=sys.stderr, flush=True)

    threading.Thread(target=announce, daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        if not worker.stop(0.5):
            # A thread still decodes or computes an image after the grace time, and a normal exit would wait for it.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            leaving = sys.exc_info()[1]
            os._exit(leaving.code if isinstance(leaving, SystemExit) else 130)
    if worker.failure is not None:
        raise UserError(f"the model failed: {type(worker.failure).__name__}: {worker.failure}")
