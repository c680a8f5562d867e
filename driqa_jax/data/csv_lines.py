"""CSV tables with the numbers of their lines, so that errors can name the line."""

from __future__ import annotations

import codecs
import csv
import io
import pathlib
from typing import NamedTuple

from driqa_jax.errors import DataError

DELIMITERS = (",", ";", "\t")
Lines = list[tuple[int, list[str]]]


class Table(NamedTuple):
    """A table of labels: `head` are its column names on line `line`, `lines` the rows below, as long as the head."""

    file: pathlib.Path
    delimiter: str
    line: int
    head: list[str]
    lines: Lines

    @classmethod
    def of(cls, file: pathlib.Path, delimiter: str, line: int, head: list[str], lines: Lines) -> Table:
        """Fills short rows with empty cells.

        Raises DataError at a row with more cells than columns, a typical result of decimal commas.
        """
        advice = "where the numbers have decimal commas, write decimal points, or split the columns by semicolons"
        for row_line, row in lines:
            if any(row[len(head) :]):
                raise DataError(file, row_line, f"holds {len(row)} cells for {len(head)} columns; {advice}")
        empty = [""] * len(head)
        return cls(file, delimiter, line, head, [(row_line, row + empty[len(row) :]) for row_line, row in lines])

    def numeric(self, column: int) -> bool:
        """Whether most cells of a column are numbers."""
        return 2 * sum(number(row[column], self.delimiter) is not None for _, row in self.lines) > len(self.lines)


def read_lines(file: pathlib.Path) -> Lines:
    """1-based number and stripped cells of each non-blank line, split at commas; a BOM is ignored.

    Raises DataError with file and line for text that is not UTF-8 or not CSV.
    """
    return _split(file, _text(file), ",")


def read_table(file: pathlib.Path) -> tuple[str, Lines]:
    """The delimiter, one of DELIMITERS, and the lines, as `read_lines`, of a table written by a spreadsheet.

    A first line `sep=;` names the delimiter; otherwise it is the one that splits the first line into most cells (comma
    in a tie). A BOM selects UTF-16. Raises DataError as `read_lines` does.
    """
    text = _text(file)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first[:4].lower() == "sep=" and first[4:5] in DELIMITERS:
        delimiter = first[4]
        return delimiter, _split(file, text, delimiter)[1:]

    def cells(delimiter: str) -> int:
        return max((len(row) for row in csv.reader([first[:100_000]], delimiter=delimiter)), default=0)

    delimiter = max(DELIMITERS, key=cells)
    return delimiter, _split(file, text, delimiter)


def number(cell: str, delimiter: str = ",") -> float | None:
    """The number in a cell, or None. A decimal comma is accepted unless commas separate cells."""
    if delimiter != "," and cell.count(",") == 1 and "." not in cell:
        cell = cell.replace(",", ".")
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _text(file: pathlib.Path) -> str:
    try:
        # Bytes, because a text stream does not know the line of an undecodable byte.
        data = file.read_bytes()
    except OSError as error:
        raise DataError(file, None, f"cannot be read ({error.strerror})") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(file, line, "is not UTF-8 text; save the file as CSV in UTF-8") from None


def _split(file: pathlib.Path, text: str, delimiter: str) -> Lines:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except csv.Error as error:
        raise DataError(file, rows.line_num, f"is not CSV ({error}); is a quotation mark left open?") from None
    return [(line, row) for line, row in lines if any(row)]
