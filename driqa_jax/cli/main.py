"""The command `driqa`: runs a subcommand and turns errors and signals into one line and an exit code.

Exit codes: 0 success, 1 some items failed, 2 usage error or nothing ran, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import contextlib
import errno
import gc
import importlib
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from driqa_jax.cli import output
from driqa_jax.errors import UserError
from driqa_jax.version import VERSION

COMMANDS = (
    "score",
    "explain",
    "cull",
    "serve",
    "evaluate",
    "examine",
    "degrade",
    "fit",
    "train",
    "protocol",
    "export",
    "data",
    "bench",
    "info",
)
# Commands that restart with `TUNABLES`. The benchmark `train` has the name of the command that it measures.
_LONG_COMMANDS = ("train", "protocol", "examine")
# By default glibc returns large arrays to the system after each step, and the next step faults them in again in 4 kB
# pages: a third of the training time on a CPU. These settings use huge pages and return nothing.
TUNABLES = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28}
TUNABLES_VARIABLE = "GLIBC_TUNABLES"

_signals: list[int] = []  # signals that ended the command, and SIGPIPE for a closed pipe


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Each command's `add_parser(subparsers)` sets `run(args) -> int`."""
    parser = argparse.ArgumentParser(
        prog="driqa",
        description="No-reference image quality assessment: a quality score from 0 to 100 for each image.",
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
    """Run one command; returns the exit code. On a usage error argparse exits with 2."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not hasattr(args, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    args.words = ["driqa", *(sys.argv[1:] if argv is None else argv)]
    try:
        with _signals_as_exceptions(), output.prepared():
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
        pipe_closed = error.errno == errno.EPIPE
        if pipe_closed:
            _signals.append(signal.SIGPIPE)
        reason = "it is closed" if pipe_closed or error.errno == errno.EBADF else error.strerror
        print(f"driqa {args.command}: standard output cannot be written: {reason}", file=sys.stderr)
        return 1 if pipe_closed else 2


def entry() -> None:
    """`main` as a process. After a signal it exits at once.

    Threads may still be in a decoder or in a compiler, and the normal interpreter exit would wait for them.
    """
    keep_memory(sys.argv[1:])
    # Imports create many objects and no garbage; looking for it after every 700 would take a tenth of the start.
    gc.set_threshold(20_000)
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


def keep_memory(arguments: Sequence[str]) -> None:
    """Restart this process, with the same process id, with `TUNABLES`: glibc reads them only at process start.

    Does nothing for a short command, if the variable is already set, or without glibc. `arguments` are those of the
    command line, the command first.
    """
    if not arguments or arguments[0] not in _LONG_COMMANDS or TUNABLES_VARIABLE in os.environ:
        return
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    os.environ[TUNABLES_VARIABLE] = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
    os.execv(sys.executable, sys.orig_argv)


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raises SystemExit on SIGTERM, so that files are closed as on Ctrl-C. A second Ctrl-C ends the process at once."""
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
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    entry()
