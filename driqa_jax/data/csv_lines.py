"""The lines of a CSV file with their numbers, so that whatever is wrong can be placed."""

from __future__ import annotations

import csv
import io
import pathlib

from driqa_jax.data.errors import DataError


def read_lines(file: pathlib.Path) -> list[tuple[int, list[str]]]:
    """1-based number and stripped cells of each line that is not blank; a BOM is passed over.

    Raises DataError, naming file and line, at what is not UTF-8 or not CSV.
    """
    try:
        # The bytes, because a text stream does not know the line of a byte that it cannot read.
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(file, line, "is not UTF-8 text; save the file as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(file, None, f"cannot be read ({error.strerror})") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except csv.Error as error:
        raise DataError(file, rows.line_num, f"is not CSV ({error}); is a quotation mark left open?") from None
    return [(line, row) for line, row in lines if any(row)]
