"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib

from driqa_jax.errors import UserError


def part_name(path: str | os.PathLike) -> pathlib.Path:
    """Where `path` grows until it is whole: beside it, so that the rename stays on one file system."""
    path = pathlib.Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Put `data` at `path`, replacing what stood there, so that no reader ever sees half of it.

    Raises UserError, naming the path, where it cannot be written.
    """
    part = part_name(path)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
