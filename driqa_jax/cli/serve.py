"""`driqa serve`: scores over HTTP, and a page to drop pictures on."""

from __future__ import annotations

import argparse
import sys

from driqa_jax.cli.options import add_model_options, positive

_EXAMPLES = """\
examples:
  driqa serve                                  # then open http://127.0.0.1:8000
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg -F image=@b.png http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg http://127.0.0.1:8000/v1/explain

/healthz answers 200 once the model is compiled, /metrics is for Prometheus, /openapi.json describes it all. Nobody
is asked who they are: on an address that others can reach, put a proxy with TLS and a login before it.

exit codes: 2 nothing ran, 130 Ctrl-C, 143 SIGTERM (what runs is finished first; a second Ctrl-C ends at once)
"""
_MIB = 2**20


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "serve",
        help="score pictures over HTTP, with a page",
        description="Score and explain pictures over HTTP, with a page to drop them on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="0 takes a free one (default: 8000)")
    add_model_options(parser, max_pixels=100e6)
    limits = parser.add_argument_group("limits")
    for option, default, about in (
        ("--max-bytes", 64 * _MIB, "of one request"),
        ("--max-pictures", 32, "in one request"),
        ("--max-queue", 256, "pictures that wait; beyond it the answer is 429"),
        ("--max-held-bytes", 512 * _MIB, "of all requests together"),
        ("--timeout", 60, "seconds for an answer"),
        ("--upload-timeout", 30, "seconds for a request to arrive, header and body each, or an answer to be taken"),
        ("--keep-alive", 75, "seconds that a connection may idle; keep it above a proxy's limit, mostly 60"),
        ("--grace", 10, "seconds to finish what runs when told to stop"),
    ):
        limits.add_argument(option, type=positive, default=default, metavar="N", help=f"{about} (default: {default})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    from driqa_jax.errors import UserError

    try:
        from driqa_jax.serving.limits import Limits
        from driqa_jax.serving.server import bound_socket, is_loopback, serve, url
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("driqa_jax"):
            raise
        missing = error.name.partition(".")[0]
        raise UserError(f"needs {missing}, which is not installed: pip install 'driqa_jax[serve]'") from None
    with bound_socket(args.host, args.port) as listener:
        _say(f"{url(listener)} listens in a moment; the model is compiled on the first start. Ctrl-C ends it.")
        if not is_loopback(listener):
            _say("warning: others can reach this address, and nobody is asked who they are")
        # Only now what takes a second to start: a wrong address is told at once.
        from driqa_jax.cli.options import loading
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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
