"""Read label tables: CSV with a header, lines of words, .xlsx sheets, .mat vectors."""

import pathlib
import posixpath
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.io

from driqa_jax.data.datasets._layout import require_file
from driqa_jax.data.label_tables import Lines, read_lines
from driqa_jax.errors import DataError


def csv_rows(file: pathlib.Path, title: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each row below the header.

    Raises DataError if the file is missing, lacks one of `columns`, or has no row below its header.
    """
    yield from _named(file, title, columns, read_lines(require_file(file, title)))


def word_lines(file: pathlib.Path, title: str, words: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of each non-blank line; blanks, tabs or commas separate words.

    Raises DataError if the file is missing or a line has another number of words.
    """
    for line, text in enumerate(require_file(file, title).read_text("utf-8-sig").splitlines(), start=1):
        cells = text.replace(",", " ").split()
        if cells and len(cells) != words:
            raise DataError(file, line, f"holds {len(cells)} words, where {title} has {words}: {text[:60]!r}")
        if cells:
            yield line, cells


def xlsx_rows(
    file: pathlib.Path, title: str, columns: Sequence[str], sheet: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number and cells by column of each row below the header of a sheet (default: the first).

    The header is the first row that contains all of `columns`. Whole numbers have no decimals ("1600", not "1600.0").
    Raises DataError if the file, the sheet or the header is missing.
    """
    try:
        with zipfile.ZipFile(require_file(file, title)) as archive:
            rows = list(_sheet(file, archive, sheet))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError) as error:
        raise DataError(file, None, f"is not an .xlsx file ({error})") from None
    heads = [i for i, (_, cells) in enumerate(rows) if set(columns) <= set(cells)]
    yield from _named(file, title, columns, rows[heads[0] :] if heads else rows)


def mat_vector(file: pathlib.Path, title: str, key: str, length: int) -> np.ndarray:
    """The vector `key` of a .mat file, (length,); a cell array of names becomes str.

    Raises DataError if the file is missing or not a .mat file, or has no such vector of that length.
    """
    require_file(file, title)
    try:
        values = scipy.io.loadmat(file)
    except Exception as error:  # scipy raises many kinds of exceptions on a damaged file
        raise DataError(file, None, f"is not a .mat file that can be read ({error})") from None
    if key not in values:
        names = ", ".join(name for name in values if not name.startswith("__")) or "nothing"
        raise DataError(file, None, f"has no {key!r}, it holds {names}: not the label file of {title}")
    vector = values[key].ravel()
    if len(vector) != length:
        raise DataError(file, None, f"{key!r} has {len(vector)} entries, where {title} has {length}")
    return np.array([str(np.squeeze(entry)) for entry in vector]) if vector.dtype == object else vector


def _named(
    file: pathlib.Path, title: str, columns: Sequence[str], lines: Lines
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each row; `lines` are (number, cells), the header first."""
    top, head = lines[0] if lines else (1, [])
    absent = [column for column in columns if column not in head]
    if absent:
        listed = [cell for cell in head if cell]
        raise DataError(file, top, f"has no column {absent[0]!r}, its header is {listed}: not {title}'s label file")
    if len(lines) < 2:
        raise DataError(file, top, "has no ratings below its header")
    for line, row in lines[1:]:
        cells = dict(zip(head, [*row, *[""] * len(head)], strict=False))
        if not cells[columns[0]]:
            raise DataError(file, line, "has no image name")
        yield line, cells


_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def _sheet(file: pathlib.Path, archive: zipfile.ZipFile, name: str | None) -> Iterator[tuple[int, list[str]]]:
    """1-based row numbers and cell texts of the sheet `name`, without empty rows."""

    def parsed(part: str) -> ElementTree.Element:
        return ElementTree.fromstring(archive.read(part))

    sheets = {entry.get("name"): entry.get(_RELATION) for entry in parsed("xl/workbook.xml").iterfind(".//{*}sheet")}
    if name is not None and name not in sheets:
        raise DataError(file, None, f"has no sheet {name!r}; its sheets are {', '.join(sheets)}")
    targets = {entry.get("Id"): entry.get("Target") for entry in parsed("xl/_rels/workbook.xml.rels")}
    target = targets[sheets[name] if name is not None else next(iter(sheets.values()))]
    has_shared = "xl/sharedStrings.xml" in archive.namelist()
    shared = [_joined(entry) for entry in parsed("xl/sharedStrings.xml")] if has_shared else []
    rows = parsed(posixpath.join("xl", target).lstrip("/")).iterfind(".//{*}row")
    for number, row in enumerate(rows, start=1):
        cells: list[str] = []
        for cell in row:
            column = _column(cell.get("r", ""), len(cells))
            cells += [""] * (column - len(cells)) + [_text(cell, shared)]
        if any(cells):
            yield int(row.get("r", number)), cells


def _column(reference: str, default: int) -> int:
    """The 0-based column of a cell reference such as "AB7"."""
    index = 0
    for letter in reference.rstrip("0123456789"):
        index = 26 * index + ord(letter) - ord("A") + 1
    return index - 1 if index else default


def _joined(entry: ElementTree.Element) -> str:
    return "".join(text.text or "" for text in entry.iterfind(".//{*}t"))


def _text(cell: ElementTree.Element, shared: Sequence[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _joined(cell).strip()
    value = cell.findtext("{*}v", "")
    if cell.get("t") == "s":
        return shared[int(value)].strip()
    return value[:-2] if re.fullmatch(r"-?\d+\.0", value) else value.strip()
