"""What goes wrong with data, said so that the reader knows which file and what to do."""

from __future__ import annotations

import os
import re

from driqa_jax.errors import UserError


class UnreadableImage(UserError, ValueError):
    """A picture that cannot be decoded: `path` (or a name, for bytes) and `reason`, both str."""

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path, self.reason = str(path), reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self):
        return type(self), (self.path, self.reason)


def reason(error: BaseException, name: str = "") -> str:
    """Why one picture failed: one line, never empty, without the picture's name, which stands beside it."""
    if isinstance(error, UnreadableImage):
        said = error.reason
    elif isinstance(error, MemoryError):
        said = "too large for this machine's memory"
    elif isinstance(error, OSError) and error.strerror:
        said = error.strerror
    else:
        said = str(error).removeprefix(f"{name}: ")
        if said and not isinstance(error, (ValueError, OSError, RuntimeError, UserError)):
            said = f"{type(error).__name__}: {said}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).capitalize()  # of an error without a message
    return " ".join(said.split()) or words


class DataError(UserError, ValueError):
    """A defect of a data set: `file`, the 1-based `line` in it (None where there is none), what to do."""

    def __init__(self, file: str | os.PathLike, line: int | None, message: str):
        self.file, self.line, self.message = str(file), line, message
        where = self.file if line is None else f"{self.file}, line {line}"
        super().__init__(f"{where}: {message}")

    def __reduce__(self):
        return type(self), (self.file, self.line, self.message)
