"""Atomic file writes, file hashes, and one form of JSON and CSV text. A failed write raises UserError with the path."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from driqa_jax.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


def part_name(path: str | os.PathLike) -> pathlib.Path:
    """The temporary name of `path`. It is in the same folder, so the final rename stays on one file system."""
    path = pathlib.Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextlib.contextmanager
def write_errors(path: str | os.PathLike, advice: str = "", done: str = "written") -> Iterator[None]:
    """Turns an OSError in the block into a UserError: `path` cannot be `done`, the reason, and the advice."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be {done} ({error.strerror or error}){advice and '; '}{advice}") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path to write in the block, which then replaces `path` atomically. Raises UserError if it fails."""
    part = part_name(path)
    try:
        with write_errors(path):
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # where nothing can be written, this fails too
            part.unlink()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Replace `path` atomically: a reader sees the old content or the new content. Raises UserError if it fails."""
    with replacing(path) as part:
        part.write_bytes(data)


def image_bytes(image: Image, format: str, **options: Any) -> bytes:
    """A Pillow image as an encoded file; the format and the options are those of its `save`."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def write_text(path: str | os.PathLike, text: str) -> None:
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, values: Any, sort_keys: bool = False) -> None:
    """`write_text` of `to_json(values)`."""
    write_text(path, to_json(values, sort_keys))


def to_json(values: Any, sort_keys: bool = False) -> str:
    """JSON text with an indent of 1. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(values, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n"


def printable(name: str | os.PathLike) -> str:
    """A file name, or text that holds one, as text that UTF-8 can encode; other characters are replaced."""
    return os.fspath(name).encode(errors="replace").decode()


def to_csv(rows: Iterable[Sequence[Any]]) -> str:
    """CSV text with newline line ends."""
    return "".join(csv_line(row) for row in rows)


def csv_line(row: Sequence[Any]) -> str:
    """One row of CSV text, newline included."""
    file = io.StringIO()
    # Before Python 3.13 the writer quotes only the line ends that it writes itself, and a name may hold either.
    csv.writer(file, lineterminator="\r\n").writerow(row)
    return file.getvalue().removesuffix("\r\n") + "\n"


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Create the folder and its parents; an existing folder is kept. Raises UserError if it fails."""
    with write_errors(path, done="made"):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def file_sha256(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(path: str | os.PathLike, extensions: Collection[str] = ()) -> pathlib.Path:
    """The path, checked before long work.

    Raises UserError if its extension is not one of `extensions`, its folder is missing, or it cannot be written.
    """
    path = pathlib.Path(path)
    if extensions and path.suffix.lower() not in extensions:
        raise UserError(f"{path}: the extension must be one of {', '.join(extensions)}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: cannot be written")
    return path
