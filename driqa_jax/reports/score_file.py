"""Score files: CSV or JSON Lines with one row per image, and a metadata file beside them."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from driqa_jax.errors import UserError
from driqa_jax.inference.stream import PAUSE, Pause
from driqa_jax.io import csv_line, require_writable, to_json, write_errors, write_json
from driqa_jax.reports.inputs import Listed

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Result
    from driqa_jax.reports.meaning import AnnotatedRow

COLUMNS = ("path", "score", "uncertainty", "error")
# What a score depends on besides its image. Runs that differ in it must not share a file.
DECISIVE = ("sha256", "runtime", "effort", "view", "calibration", "own_scale", "columns", "reference", "bands")

_EARLIER = {"runtime": "jax"}  # of files that do not say it


class WrittenRow(NamedTuple):
    """A row read back; `end` is the offset of the byte after it."""

    path: str
    score: float | None
    error: str | None
    end: int


def csv_rows(file: IO[bytes]) -> Iterator[WrittenRow]:
    """Rows of a CSV file up to the first incomplete row; none if the header does not begin with `COLUMNS`."""
    end = 0

    def lines():
        nonlocal end
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), strict=True)  # strict: an unclosed quote is an error
    try:
        header = next(reader, [])
        if header[: len(COLUMNS)] != list(COLUMNS):
            return
        for row in reader:
            if len(row) != len(header) or bool(row[1]) == bool(row[3]):
                return
            yield WrittenRow(row[0], float(row[1]) if row[1] else None, row[3] or None, end)
    except (csv.Error, ValueError):
        return


def jsonl_rows(file: IO[bytes]) -> Iterator[WrittenRow]:
    """Rows of a JSON Lines file up to the first incomplete row."""
    end = 0
    for line in file:
        end += len(line)
        try:
            row = json.loads(line)
            failed = row["error"] is not None
            if not line.endswith(b"\n") or set(COLUMNS) - row.keys() or failed == (row["score"] is not None):
                return
        except (ValueError, TypeError, KeyError):
            return
        yield WrittenRow(row["path"], row["score"], row["error"], end)


class CSVRows:
    """Writes CSV with a header; a failed image has empty numbers and its reason in `error`.

    columns: further columns, whose values rows have in `extra`.
    """

    rows_of = staticmethod(csv_rows)

    def __init__(self, file: IO[str], header: bool = True, columns: Sequence[str] = ()):
        self._file, self._columns = file, columns
        if header:
            file.write(csv_line([*COLUMNS, *columns]))
            file.flush()

    def write(self, row: Result | AnnotatedRow, others: Mapping[str, Any] | None = None) -> None:
        """Write and flush one row, so that readers see it at once; CSV has no column for `others`."""
        # The scorer has rounded the numbers; here they get two places.
        numbers = ("" if value is None else f"{value:.2f}" for value in (row.score, row.uncertainty))
        extra = getattr(row, "extra", {})
        values = ("" if (value := extra.get(name)) is None else value for name in self._columns)
        self._file.write(csv_line([row.path, *numbers, row.error or "", *values]))
        self._file.flush()


class JSONLRows:
    """Writes JSON Lines: an object per line with `COLUMNS` (null if absent), the row's `extra` and any other keys."""

    rows_of = staticmethod(jsonl_rows)

    def __init__(self, file: IO[str], header: bool = True, columns: Sequence[str] = ()):
        self._file = file

    def write(self, row: Result | AnnotatedRow, others: Mapping[str, Any] | None = None) -> None:
        """Write and flush one row; keys of `others` that are columns are dropped."""
        own = {**{key: getattr(row, key) for key in COLUMNS}, **getattr(row, "extra", {})}
        self._file.write(json.dumps({**own, **{k: v for k, v in (others or {}).items() if k not in own}}) + "\n")
        self._file.flush()


WRITERS = {".csv": CSVRows, ".jsonl": JSONLRows}


def check_output(path: str | os.PathLike) -> pathlib.Path:
    """The path of a score file, checked by `require_writable`, which raises UserError."""
    return require_writable(path, WRITERS)


def scored_rows(path: str | os.PathLike) -> Iterator[WrittenRow]:
    """The rows of a score file, whatever its further columns."""
    with open(path, "rb") as file:
        yield from WRITERS[pathlib.Path(path).suffix.lower()].rows_of(file)


def meta_path(path: str | os.PathLike) -> pathlib.Path:
    """The metadata file of `scores.csv`: `scores.meta.json`."""
    return pathlib.Path(path).with_suffix(".meta.json")


class ScoreFile:
    """A context manager that writes rows to `.NAME.part` and moves it into place when the block ends.

    Each row is flushed. When the block ends, or Ctrl-C or SIGTERM interrupts it, the part becomes the file, and
    `NAME.meta.json` records the provenance and the counts `rows`, `failed` and `complete`. After any other exception,
    or if the process is killed, the part stays and the previous file is untouched.

    With `resume`, the complete rows of the part (or else of the file) are kept and new rows are appended. `rows` and
    `failed` include the kept rows. `columns` are further columns of a CSV.

    Raises UserError if the file cannot be written, if another process is writing it, or if the kept rows come from
    another model, view, effort or calibration.
    """

    def __init__(
        self, path: str | os.PathLike, provenance: Mapping[str, Any], resume: bool = False, columns: Sequence[str] = ()
    ):
        self.path, self._provenance, self._resume = check_output(path), dict(provenance), resume
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._part_meta = self.path.with_name(f".{self.path.name}.part.meta.json")
        self._kind = WRITERS[self.path.suffix.lower()]
        self._columns = columns
        self.rows, self.failed, self.kept = 0, 0, 0

    def __enter__(self) -> ScoreFile:
        with write_errors(self.path):
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666)
            # A file name need not be UTF-8; surrogateescape writes its bytes unchanged.
            self._file = open(descriptor, "r+", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        try:
            _lock(self._file, self.path)
            resumed = self._resume and self._keep()
            if not resumed:
                self._file.truncate(0)
            write_json(self._part_meta, self._provenance)
            self._file.seek(0, os.SEEK_END)
            self._writer = self._kind(self._file, header=not resumed, columns=self._columns)
        except BaseException:
            self._file.close()
            raise
        return self

    def rest(self, pictures: Iterator[Listed | Pause]) -> Iterator[Listed | Pause]:
        """`pictures` without the leading ones, whose rows are kept.

        Raises UserError if the input does not begin with the kept rows in their order.
        """
        for number, row in enumerate(self.kept_rows(), 1):
            image = next((item for item in pictures if item is not PAUSE), None)
            if image is None or image.path != row.path:
                actual = f"the input has {image.path}" if image else "the input has ended"
                raise UserError(
                    f"{self.path}: row {number} is {row.path}, but {actual}; the input has changed, so score it "
                    "without --resume"
                )
        yield from pictures

    def kept_rows(self) -> Iterator[WrittenRow]:
        """The rows of the earlier run, read from the file."""
        with open(self._part, "rb") as file:
            yield from itertools.islice(self._kind.rows_of(file), self.kept)

    def write(self, row: Result | AnnotatedRow, others: Mapping[str, Any] | None = None) -> None:
        """Append one row. Raises UserError if the disk is full."""
        with write_errors(self.path, f"{self.rows} rows are in {self._part}; continue with --resume"):
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
        # Last, so that --resume still finds the provenance if the process is killed before this line.
        self._part_meta.unlink(missing_ok=True)

    def _keep(self) -> bool:
        """Keep the complete rows of an earlier run; return whether the file has any."""
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
                f"{rows}: {described.name} cannot be read, so the origin of its rows is unknown; score without --resume"
            ) from None
        now = json.loads(to_json(self._provenance))
        for key in DECISIVE:
            earlier, current = (each.get(key, _EARLIER.get(key)) for each in (before, now))
            if earlier != current:
                raise UserError(
                    f"{rows}: its rows were made with {key} {earlier}, but now it is {current}; "
                    "use the same one, or score without --resume"
                )


def _lock(file: IO[str], path: pathlib.Path) -> None:
    """Lock the open file against other processes where the system can (POSIX)."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another run is writing this file") from None
    except (ImportError, OSError):  # the system or the file system has no locks
        return
