"""Standard output that takes any file name, and says in one line where it cannot be written."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys

_ESCAPED = "driqa_escaped"


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name that are no text come out as they are, characters that the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start]
    if 0xDC80 <= ord(text) <= 0xDCFF:
        return bytes([ord(text) - 0xDC00]), error.start + 1
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


def prepare() -> None:
    """Make both standard streams fit to be written: whatever the encoding, and where the caller closed them."""
    codecs.register_error(_ESCAPED, _escaped)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:  # closed: every write fails, as it should, and no file opened later takes its number
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=_ESCAPED)


def failed(error: OSError) -> bool:
    """Whether it was standard output that could not be written; what could not be is dropped then.

    A failed write leaves its text in the buffer, so the next flush fails again.
    """
    try:
        sys.stdout.flush()
        return isinstance(error, BrokenPipeError)
    except (OSError, ValueError) as again:
        same = getattr(again, "errno", None) == error.errno
    if same:  # Python would complain once more when it flushes at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return same
