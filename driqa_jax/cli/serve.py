"""`driqa serve`: scores images over HTTP, with a web page."""

from __future__ import annotations

import argparse
import sys

from driqa_jax.cli.meaning import add_meaning_options, check_meaning, meaning_of
from driqa_jax.cli.options import add_command, add_model_options, loading, port, positive
from driqa_jax.errors import UserError
from driqa_jax.serving.limits import Limits

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
# Options of the fields of `Limits`.
_LIMITS = (
    ("--max-bytes", "request_bytes", "bytes of one request"),
    ("--max-pictures", "pictures", "images in one request"),
    ("--max-queue", "queue", "waiting images; above it the answer is 429"),
    ("--max-held-bytes", "held_bytes", "bytes of all requests together"),
    ("--timeout", "seconds", "seconds for an answer"),
    ("--upload-timeout", "upload_seconds", "seconds for a client to send a header, send a body, or read an answer"),
    ("--keep-alive", "keep_alive_seconds", "idle seconds of a connection; must exceed a proxy's limit, usually 60"),
    ("--grace", "grace_seconds", "seconds for running requests after a stop signal"),
)


def add_parser(subparsers) -> None:
    """Declare the command."""
    about = "Score and explain images over HTTP, with a web page to drop images on."
    parser = add_command(subparsers, "serve", "score images over HTTP", about, _EXAMPLES, run=run)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0 selects a free port (default: 8000)")
    add_model_options(parser, max_pixels=Limits().pixels)
    add_meaning_options(parser, bases=("score", "percentile"))
    limits = parser.add_argument_group("limits")
    for option, field, about in _LIMITS:
        default = getattr(Limits(), field)
        about = f"{about} (default: {default})"
        limits.add_argument(option, dest=field, type=positive, default=default, metavar="N", help=about)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. Raises UserError if the extra `serve` is missing or the address cannot be bound."""
    try:
        from driqa_jax.serving.server import bound_socket, is_loopback, serve, url
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("driqa_jax"):
            raise
        missing = error.name.partition(".")[0]
        raise UserError(f"needs {missing}, which is not installed: pip install 'driqa_jax[serve]'") from None
    bands = check_meaning(args)
    with bound_socket(args.host, args.port) as listener:
        _say(f"{url(listener)} will listen soon; the first start compiles the model. Ctrl-C stops the server.")
        if not is_loopback(listener):
            _say("warning: other machines can reach this address, and the server has no authentication")
        # These imports take a second; a wrong address fails before them.
        from driqa_jax.inference.scorer import load

        limits = Limits(pixels=args.max_pixels, **{field: getattr(args, field) for _, field, _ in _LIMITS})
        scorer = load(args.model, **loading(args))
        meaning = meaning_of(args, bands, scorer) if bands or args.percentile else None
        serve(scorer, limits, listener, meaning)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
