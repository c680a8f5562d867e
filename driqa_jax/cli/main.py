"""The command `driqa`: finds the subcommand, runs it, turns what went wrong into a line and an exit code.

Exit codes: 0 success, 1 some items failed, 2 usage error or nothing ran, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from driqa_jax.cli import output
from driqa_jax.cli.memory import keep_memory
from driqa_jax.errors import UserError
from driqa_jax.version import VERSION

COMMANDS = (
    "score",
    "explain",
    "serve",
    "evaluate",
    "examine",
    "degrade",
    "train",
    "protocol",
    "export",
    "data",
    "bench",
    "info",
)


_signals: list[int] = []  # that ended the command; a closed pipe is one too, though Python makes it an error


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's `add_parser(subparsers)` sets `run(args) -> int`."""
    parser = argparse.ArgumentParser(
        prog="driqa",
        description="No-reference image quality assessment: how good is a photo, from 0 to 100.",
        epilog="example:\n  driqa score photos/ -o scores.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"driqa_jax {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"driqa_jax.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (argparse itself exits, with 2, on a usage error)."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not hasattr(args, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    args.words = ["driqa", *(sys.argv[1:] if argv is None else argv)]
    try:
        with _terminated_as_exit(), output.prepared():
            code = args.run(args)
            sys.stdout.flush()
            return code
    except UserError as error:
        print(f"driqa {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except output.Unwritable as error:
        output.discard()
        gone = error.errno == errno.EPIPE
        if gone:
            _signals.append(signal.SIGPIPE)
        why = "it is closed" if gone or error.errno == errno.EBADF else error.strerror
        print(f"driqa {args.command}: standard output cannot be written: {why}", file=sys.stderr)
        return 1 if gone else 2


def entry() -> None:
    """`main` for a process of its own, which ends at once where it was told to stop.

    Threads may be deep in a decoder or a compiler then, and what Python does at its end would wait for them.
    """
    keep_memory(sys.argv[1:])
    try:
        code = main()
    except SystemExit as leave:
        if not _signals:
            raise
        code = leave.code
    if _signals:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """SIGTERM unwinds like an exception, so that files are closed as they are on Ctrl-C; a second Ctrl-C kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        _signals.append(number)
        raise SystemExit(128 + number)

    def interrupt(number, frame):
        _signals.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: leave, signal.SIGINT: interrupt}
    before = {number: signal.signal(number, how) for number, how in handlers.items()}
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)


if __name__ == "__main__":
    entry()
