"""What goes wrong with data, said so that the reader knows which file and what to do."""

from __future__ import annotations

import os

from driqa_jax.errors import UserError


class UnreadableImage(UserError, ValueError):
    """A picture that cannot be decoded: `path` (or a name, for bytes) and `reason`, both str."""

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path, self.reason = str(path), reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self):
        return type(self), (self.path, self.reason)


class DataError(UserError, ValueError):
    """A defect of a data set: `file`, the 1-based `line` in it (None where there is none), what to do."""

    def __init__(self, file: str | os.PathLike, line: int | None, message: str):
        self.file, self.line, self.message = str(file), line, message
        where = self.file if line is None else f"{self.file}, line {line}"
        super().__init__(f"{where}: {message}")

    def __reduce__(self):
        return type(self), (self.file, self.line, self.message)
