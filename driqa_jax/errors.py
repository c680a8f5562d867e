"""Errors that the user can fix."""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from typing import Any


class UserError(Exception):
    """The command prints the message as one line on standard error and exits with 2."""


class UnreadableImage(UserError, ValueError):
    """An image that cannot be decoded: `path` (or a name, for bytes) and `reason`, both str."""

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path, self.reason = str(path), reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class DataError(UserError, ValueError):
    """A defect of a data set: `file`, the 1-based `line` in it (or None), and `message`, which says how to fix it."""

    def __init__(self, file: str | os.PathLike, line: int | None, message: str):
        self.file, self.line, self.message = str(file), line, message
        where = self.file if line is None else f"{self.file}, line {line}"
        super().__init__(f"{where}: {message}")

    def __reduce__(self) -> tuple[type, tuple[str, int | None, str]]:
        return type(self), (self.file, self.line, self.message)


@contextlib.contextmanager
def user_errors(advice: str = "{}") -> Iterator[None]:
    """Turns ValueError and FileNotFoundError in the block into UserError; `advice` is a format of the message."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise UserError(advice.format(error)) from error


def require_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Raises UserError, with the choices, unless `value` is one of them; `key`: the configuration's key."""
    if value not in choices:
        raise UserError(f"config.{key} must be one of {', '.join(choices)}, got {value!r}")


def reason(error: BaseException, name: str = "") -> str:
    """Why one image failed: one non-empty line, without the image's name, which the caller prints beside it."""
    if isinstance(error, UnreadableImage):
        text = error.reason
    elif isinstance(error, MemoryError):
        text = "too large for this machine's memory"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error).removeprefix(f"{name}: ")
        if text and not isinstance(error, (ValueError, OSError, RuntimeError, UserError)):
            text = f"{type(error).__name__}: {text}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).capitalize()  # for an error without a message
    return " ".join(text.split()) or words
