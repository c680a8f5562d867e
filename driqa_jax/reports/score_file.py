"""Files of scores: CSV or JSON Lines, a row a picture, and a file beside them that says what made them."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol

from driqa_jax.errors import UserError
from driqa_jax.inference.stream import PAUSE, Pause
from driqa_jax.io import require_writable, to_json, write_errors, write_json
from driqa_jax.reports.inputs import Listed
from driqa_jax.reports.score_rows import COLUMNS, WrittenRow, csv_rows, jsonl_rows

# What a score depends on beside its picture: rows of runs that differ in it do not belong into one file.
DECISIVE = ("sha256", "effort", "view", "calibration", "own_scale")


class Row(Protocol):
    """What is written: `driqa_jax.inference.scorer.Result` is one."""

    path: str
    score: float | None
    uncertainty: float | None
    error: str | None


class CSVRows:
    """Rows as CSV with a header; a picture without a score has empty cells and its reason in `error`."""

    rows_of = staticmethod(csv_rows)

    def __init__(self, file: IO[str], header: bool = True):
        self._file, self._csv = file, csv.writer(file, lineterminator="\n")
        if header:
            self._csv.writerow(COLUMNS)
            file.flush()

    def write(self, row: Row, others: Mapping[str, Any] | None = None) -> None:
        """Write one row and flush it, so that whoever reads along sees it; there is no column for `others`."""
        numbers = ("" if value is None else f"{value:.2f}" for value in (row.score, row.uncertainty))
        self._csv.writerow([row.path, *numbers, row.error or ""])
        self._file.flush()


class JSONLRows:
    """Rows as JSON Lines: an object a line with the keys of `COLUMNS`, null where there is none, and others."""

    rows_of = staticmethod(jsonl_rows)

    def __init__(self, file: IO[str], header: bool = True):
        self._file = file

    def write(self, row: Row, others: Mapping[str, Any] | None = None) -> None:
        """Write one row and flush it; keys of `others` that are columns are left out."""
        own = {key: getattr(row, key) for key in COLUMNS}
        self._file.write(json.dumps({**own, **{k: v for k, v in (others or {}).items() if k not in own}}) + "\n")
        self._file.flush()


_KINDS = {".csv": CSVRows, ".jsonl": JSONLRows}


def check_output(path: str | os.PathLike) -> pathlib.Path:
    """The path, fit to be written to. Raises UserError for another ending, a folder, a missing folder."""
    return require_writable(path, _KINDS)


def meta_path(path: str | os.PathLike) -> pathlib.Path:
    """Where the provenance of `scores.csv` stands: `scores.meta.json`."""
    return pathlib.Path(path).with_suffix(".meta.json")


class ScoreFile:
    """A file of scores that grows beside its place and moves there when it is closed.

    A context manager. Rows are flushed as they come, into `.NAME.part`. When the block ends, or is interrupted
    by Ctrl-C or SIGTERM, the rows so far become the file, and `F.meta.json` is written with `provenance` and
    the counts `rows`, `failed` and `complete`. When it ends in an error, or the process is killed, the part is
    kept and what stood at the path before as well.

    With `resume` the rows of the part, or else of the file, are kept, up to the first that is not whole (a
    process can be killed in the middle of a line), and rows are added after them; `rows` and `failed` count
    them too.

    Raises UserError where the file cannot be written, where another process writes it, and where the rows to
    be kept were made by another model, view, effort or calibration.
    """

    def __init__(self, path: str | os.PathLike, provenance: Mapping[str, Any], resume: bool = False):
        self.path, self._provenance, self._resume = check_output(path), dict(provenance), resume
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._part_meta = self.path.with_name(f".{self.path.name}.part.meta.json")
        self._kind = _KINDS[self.path.suffix.lower()]
        self.rows, self.failed, self.kept = 0, 0, 0

    def __enter__(self) -> ScoreFile:
        with write_errors(self.path):
            # A file name need not be text; its bytes are written as they are.
            self._file = open(  # noqa: SIM115
                os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666),
                "r+",
                encoding="utf-8",
                errors="surrogateescape",
                newline="",
            )
        try:
            _lock(self._file, self.path)
            begun = self._resume and self._keep()
            if not begun:
                self._file.truncate(0)
            write_json(self._part_meta, self._provenance)
            self._file.seek(0, os.SEEK_END)
            self._writer = self._kind(self._file, header=not begun)
        except BaseException:
            self._file.close()
            raise
        return self

    def rest(self, pictures: Iterator[Listed | Pause]) -> Iterator[Listed | Pause]:
        """`pictures` without those whose rows are kept, which must be the first of them, in their order.

        Raises UserError where they are not: another input cannot go on with these rows.
        """
        for number, row in enumerate(self.kept_rows(), 1):
            picture = next((picture for picture in pictures if picture is not PAUSE), None)
            if picture is None or picture.path != row.path:
                found = f"the input has {picture.path}" if picture else "the input has ended"
                raise UserError(
                    f"{self.path}: row {number} is of {row.path}, where {found}; the input has changed, so score it"
                    f" without --resume"
                )
        yield from pictures

    def kept_rows(self) -> Iterator[WrittenRow]:
        """The rows that an earlier run left, read from the file."""
        with open(self._part, "rb") as file:
            yield from itertools.islice(self._kind.rows_of(file), self.kept)

    def write(self, row: Row, others: Mapping[str, Any] | None = None) -> None:
        """Add one row. Raises UserError where the disk is full."""
        with write_errors(self.path, f"{self.rows} rows are in {self._part}; go on with --resume"):
            self._writer.write(row, others)
        self.rows += 1
        self.failed += row.error is not None

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            with contextlib.suppress(OSError):
                self._file.close()
            if not self.rows:
                self._part.unlink(missing_ok=True)
                self._part_meta.unlink(missing_ok=True)
            return
        self._file.close()
        counts = {"rows": self.rows, "failed": self.failed, "complete": kind is None}
        os.replace(self._part, self.path)
        write_json(meta_path(self.path), {"file": self.path.name, **counts, **self._provenance})
        # Last: killed before, the next --resume still knows what made the rows.
        self._part_meta.unlink(missing_ok=True)

    def _keep(self) -> bool:
        """Keep the rows of an earlier run; whether there is anything to keep."""
        if not os.fstat(self._file.fileno()).st_size and self.path.exists():
            described = self._part_meta if self._part_meta.exists() else meta_path(self.path)
            self._check_same(described, self.path)
            with open(self.path, "rb") as before:
                shutil.copyfileobj(before, self._file.buffer)
            self._file.flush()
        elif self._part_meta.exists():
            self._check_same(self._part_meta, self._part)
        end = 0
        with open(self._part, "rb") as file:
            for row in self._kind.rows_of(file):
                end, self.kept = row.end, self.kept + 1
                self.failed += row.error is not None
        self.rows = self.kept
        self._file.truncate(end)
        return end > 0

    def _check_same(self, described: pathlib.Path, rows: pathlib.Path) -> None:
        try:
            before = json.loads(described.read_text())
        except (OSError, ValueError):
            raise UserError(
                f"{rows}: {described.name} is not there, so nothing says what made its rows; score without --resume"
            ) from None
        now = json.loads(to_json(self._provenance))
        for key in DECISIVE:
            if before.get(key) != now.get(key):
                raise UserError(
                    f"{rows}: its rows were made with {key} {before.get(key)}, now it is {now.get(key)}; "
                    f"use the same again, or score without --resume"
                )


def _lock(file: IO[str], path: pathlib.Path) -> None:
    """Keep other processes from the file while it is open, where the system can (POSIX)."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another run is writing this file") from None
    except OSError:  # a file system without locks
        return
