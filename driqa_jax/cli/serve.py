"""`driqa serve`: scores images over HTTP, with a web page."""

from __future__ import annotations

import argparse
import sys

from driqa_jax.cli.options import add_command, add_model_options, loading, port, positive
from driqa_jax.errors import UserError

_EXAMPLES = """\
examples:
  driqa serve                                  # then open http://127.0.0.1:8000
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg -F image=@b.png http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg http://127.0.0.1:8000/v1/explain

/healthz answers 200 once the model is compiled, /metrics is for Prometheus, /openapi.json describes the API. The server
has no authentication. On an address that other machines can reach, use a proxy with TLS and a login.

exit codes: 2 nothing ran, 130 Ctrl-C, 143 SIGTERM (running requests finish first; a second Ctrl-C stops at once)
"""
_MIB = 2**20


def add_parser(subparsers) -> None:
    """Declare the command."""
    about = "Score and explain images over HTTP, with a web page to drop images on."
    parser = add_command(subparsers, "serve", "score images over HTTP", about, _EXAMPLES, run=run)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0 selects a free port (default: 8000)")
    add_model_options(parser, max_pixels=100e6)
    limits = parser.add_argument_group("limits")
    for option, default, about in (
        ("--max-bytes", 64 * _MIB, "bytes of one request"),
        ("--max-pictures", 32, "images in one request"),
        ("--max-queue", 256, "waiting images; above it the answer is 429"),
        ("--max-held-bytes", 512 * _MIB, "bytes of all requests together"),
        ("--timeout", 60, "seconds for an answer"),
        ("--upload-timeout", 30, "seconds for a client to send the header, to send the body, or to read the answer"),
        ("--keep-alive", 75, "seconds that a connection may idle; must exceed the proxy's limit, usually 60"),
        ("--grace", 10, "seconds for running requests after a stop signal"),
    ):
        limits.add_argument(option, type=positive, default=default, metavar="N", help=f"{about} (default: {default})")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    try:
        from driqa_jax.serving.limits import Limits
        from driqa_jax.serving.server import bound_socket, is_loopback, serve, url
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("driqa_jax"):
            raise
        missing = error.name.partition(".")[0]
        raise UserError(f"needs {missing}, which is not installed: pip install 'driqa_jax[serve]'") from None
    with bound_socket(args.host, args.port) as listener:
        _say(f"{url(listener)} will listen soon; the first start compiles the model. Ctrl-C stops the server.")
        if not is_loopback(listener):
            _say("warning: other machines can reach this address, and the server has no authentication")
        # These imports take a second; a wrong address fails before them.
        from driqa_jax.inference.scorer import load

        limits = Limits(
            request_bytes=args.max_bytes,
            pictures=args.max_pictures,
            pixels=args.max_pixels,
            queue=args.max_queue,
            held_bytes=args.max_held_bytes,
            upload_seconds=args.upload_timeout,
            seconds=args.timeout,
            grace_seconds=args.grace,
            keep_alive_seconds=args.keep_alive,
        )
        serve(load(args.model, **loading(args)), limits, listener)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
