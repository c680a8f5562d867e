"""A server on a socket: start, readiness, shutdown."""

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

from driqa_jax.errors import UserError
from driqa_jax.serving.app import create_app
from driqa_jax.serving.connections import impatient_protocol
from driqa_jax.serving.limits import Limits


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
