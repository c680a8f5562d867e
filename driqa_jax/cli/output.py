"""Standard output that accepts any file name and raises one error if it cannot be written."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator

from driqa_jax.io import printable

_ESCAPED = "driqa_escaped"


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Undecodable bytes of a file name are written unchanged; characters outside the encoding become escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start]
    if 0xDC80 <= ord(text) <= 0xDCFF:
        return bytes([ord(text) - 0xDC00]), error.start + 1
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


def say(text: str) -> None:
    """One line on standard error, whatever names it holds."""
    print(printable(text), file=sys.stderr)


class Unwritable(OSError):
    """Standard output cannot be written: full disk, closed pipe, or stream closed by the caller."""


class _Stdout:
    """Standard output that raises Unwritable, which other files do not."""

    def __init__(self, stream):
        self._stream = stream
        self.write, self.flush = _as_unwritable()(stream.write), _as_unwritable()(stream.flush)

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextlib.contextmanager
def _as_unwritable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno, error.strerror) from error


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Both standard streams can be written in the block, with any encoding, even if the caller closed them."""
    codecs.register_error(_ESCAPED, _escaped)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:  # closed: writes must fail, and no file opened later may take its descriptor
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    stream = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ESCAPED)
    sys.stdout = _Stdout(stream)
    try:
        yield
    finally:
        sys.stdout = stream


def discard() -> None:
    """Drop unwritten output; otherwise Python reports the error again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
