"""Score and explain images over HTTP, with a web page to drop images on.

examples:
  driqa serve                                  # then open http://127.0.0.1:8000
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg -F image=@b.png http://127.0.0.1:8000/v1/score
  curl -F image=@a.jpg http://127.0.0.1:8000/v1/explain

/healthz answers 200 once the model is compiled, /metrics is for Prometheus, /openapi.json describes the API. The server
has no authentication. On an address that other machines can reach, use a proxy with TLS and a login.

exit codes: 2 nothing ran, 130 Ctrl-C, 143 SIGTERM (running requests finish first; a second Ctrl-C stops at once)
"""

import argparse

from driqa_jax.cli.meaning import add_meaning_options, check_meaning, meaning_of
from driqa_jax.cli.options import Subparsers, add_command, add_model_options, loading, port, positive
from driqa_jax.cli.output import say
from driqa_jax.errors import UserError
from driqa_jax.serving.limits import OPTIONS, Limits


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "serve", "score images over HTTP", __doc__, run=run)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0 selects a free port (default: 8000)")
    add_model_options(parser, max_pixels=Limits().pixels)
    add_meaning_options(parser, bases=("score", "percentile"))
    limits = parser.add_argument_group("limits")
    for field in OPTIONS:
        option, about = field.metadata["option"], field.metadata["help"]
        limits.add_argument(option, dest=field.name, type=positive, default=field.default, metavar="N", help=about)


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
        say(f"{url(listener)} will listen soon; the first start compiles the model. Ctrl-C stops the server.")
        if not is_loopback(listener):
            say("warning: other machines can reach this address, and the server has no authentication")
        # These imports take a second; a wrong address fails before them.
        from driqa_jax.inference.scorer import load

        limits = Limits(pixels=args.max_pixels, **{field.name: getattr(args, field.name) for field in OPTIONS})
        scorer = load(args.model, **loading(args))
        meaning = meaning_of(args, bands, scorer) if bands or args.percentile else None
        serve(scorer, limits, listener, meaning)
    return 0
