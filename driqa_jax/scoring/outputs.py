"""Files of scores: CSV or JSON Lines, a row a picture, and a file beside them that says what made them."""

from __future__ import annotations

import csv
import json
import os
import pathlib
from collections.abc import Mapping
from typing import IO, Any, Protocol

from driqa_jax.atomic import part_name, write_whole
from driqa_jax.errors import UserError

COLUMNS = ("path", "score", "error")


class Row(Protocol):
    """What is written: `driqa_jax.scoring.scorer.Result` is one."""

    path: str
    score: float | None
    error: str | None


class CSVRows:
    """Rows as CSV with a header; a picture without a score has an empty cell and its reason in `error`."""

    def __init__(self, file: IO[str]):
        self._file, self._csv = file, csv.writer(file, lineterminator="\n")
        self._csv.writerow(COLUMNS)
        file.flush()

    def write(self, row: Row) -> None:
        """Write one row and flush it, so that whoever reads along sees it."""
        self._csv.writerow([row.path, "" if row.score is None else f"{row.score:.2f}", row.error or ""])
        self._file.flush()


class JSONLRows:
    """Rows as JSON Lines: an object a line with the keys of `COLUMNS`, null where there is none."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, row: Row) -> None:
        """Write one row and flush it."""
        self._file.write(json.dumps({"path": row.path, "score": row.score, "error": row.error}) + "\n")
        self._file.flush()


_KINDS = {".csv": CSVRows, ".jsonl": JSONLRows}


def check_output(path: str | os.PathLike) -> pathlib.Path:
    """The path, fit to be written to. Raises UserError for another ending, a folder, a missing folder."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _KINDS:
        raise UserError(f"{path}: the ending must be one of {', '.join(_KINDS)}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def meta_path(path: str | os.PathLike) -> pathlib.Path:
    """Where the provenance of `scores.csv` stands: `scores.meta.json`."""
    return pathlib.Path(path).with_suffix(".meta.json")


class ScoreFile:
    """A file of scores that grows beside its place and moves there when it is closed.

    A context manager. Rows are flushed as they come, into `.NAME.PID.part`. When the block ends, or is
    interrupted by Ctrl-C or SIGTERM, the rows so far become the file, and `F.meta.json` is written with
    `provenance` and the counts `rows`, `failed` and `complete`. When it ends in an error, the part is kept
    and what stood at the path before as well. Raises UserError where the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, provenance: Mapping[str, Any]):
        self.path, self._provenance = check_output(path), dict(provenance)
        self._part = part_name(self.path)
        self._rows, self._failed = 0, 0

    def __enter__(self) -> ScoreFile:
        try:
            # A file name need not be text; its bytes are written as they are.
            self._file = open(self._part, "w", encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error})") from None
        self._writer = _KINDS[self.path.suffix.lower()](self._file)
        return self

    def write(self, row: Row) -> None:
        """Add one row. Raises UserError where the disk is full."""
        try:
            self._writer.write(row)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror or error}); "
                f"{self._rows} rows are in {self._part}"
            ) from None
        self._rows += 1
        self._failed += row.error is not None

    def __exit__(self, kind, error, trace) -> None:
        self._file.close()
        if kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            return
        os.replace(self._part, self.path)
        counts = {"rows": self._rows, "failed": self._failed, "complete": kind is None}
        meta = json.dumps({"file": self.path.name, **counts, **self._provenance}, indent=2) + "\n"
        write_whole(meta_path(self.path), meta.encode())
