"""Reading rows of scores back, as far as they are whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, NamedTuple

COLUMNS = ("path", "score", "uncertainty", "error")


class WrittenRow(NamedTuple):
    """A row's path, its score or its error, and the byte of the file after it."""

    path: str
    score: float | None
    error: str | None
    end: int


def csv_rows(file: IO[bytes]) -> Iterator[WrittenRow]:
    """Rows of a CSV file with the header of `COLUMNS`, up to the first that is not whole; no row without it."""
    end = 0

    def lines():
        nonlocal end
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), strict=True)  # strict: a quote that is never closed is an error
    try:
        if next(reader, None) != list(COLUMNS):
            return
        for row in reader:
            if len(row) != len(COLUMNS) or bool(row[1]) == bool(row[3]):
                return
            yield WrittenRow(row[0], float(row[1]) if row[1] else None, row[3] or None, end)
    except (csv.Error, ValueError):
        return


def jsonl_rows(file: IO[bytes]) -> Iterator[WrittenRow]:
    """Rows of a JSON Lines file, up to the first that is not whole."""
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
