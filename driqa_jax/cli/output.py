"""Standard output that takes any file name, and says in one line where it cannot be written."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator

_ESCAPED = "driqa_escaped"


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name that are no text come out as they are, characters that the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start]
    if 0xDC80 <= ord(text) <= 0xDCFF:
        return bytes([ord(text) - 0xDC00]), error.start + 1
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


class Unwritable(OSError):
    """Standard output cannot be written: a full disk, a reader that has gone, a stream that the caller closed."""


class _Stdout:
    """Standard output whose errors can be told from those of other files."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _told():
            return self._stream.write(text)

    def flush(self) -> None:
        with _told():
            self._stream.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno, error.strerror) from error


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Both standard streams fit to be written within: whatever the encoding, and where the caller closed them."""
    codecs.register_error(_ESCAPED, _escaped)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:  # closed: every write fails, as it should, and no file opened later takes its number
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
    """Drop what could not be written; Python would complain once more when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
