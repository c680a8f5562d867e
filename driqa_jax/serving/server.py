"""A server on a socket, from its start to its end."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import sys
import threading

import uvicorn

from driqa_jax.errors import UserError
from driqa_jax.serving.app import create_app
from driqa_jax.serving.connections import patient
from driqa_jax.serving.limits import Limits


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket on an address, not yet listening. Raises UserError where that cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host} port {port}: {said}; choose others with --host and --port") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app, limits: Limits) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        http=patient(limits.upload_seconds),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_seconds)),
        timeout_graceful_shutdown=max(1, round(limits.grace_seconds)),
    )


def serve(scorer, limits: Limits, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs, within `limits.grace_seconds`, and pass the signal on.

    A second SIGINT ends at once. Raises UserError where the scorer fails at its very first pictures.
    """
    app = create_app(scorer, limits, on_failure=lambda: setattr(server, "should_exit", True))
    worker = app.state.service.worker
    server = uvicorn.Server(server_config(app, limits))
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else it has a line for every odd request
    threading.Thread(target=_say_when_ready, args=(worker, url(listener)), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        if not worker.stop(0.5):
            _leave_at_once(sys.exc_info()[1])
    if worker.failure is not None:
        raise UserError(f"the model failed: {type(worker.failure).__name__}: {worker.failure}")


def _say_when_ready(worker, where: str) -> None:
    worker.ready.wait()
    print(f"ready: {where}", file=sys.stderr, flush=True)


def _leave_at_once(leaving: BaseException | None) -> None:
    # A picture is still being decoded or computed, its time is over, and Python would wait for its thread.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(leaving.code if isinstance(leaving, SystemExit) else 130)
