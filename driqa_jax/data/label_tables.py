"""Label tables: the numbered lines of a CSV file, and its columns of image names and scores, found by name.

Position decides about a column only if the names leave one choice, as in the meta_info files of IQA-PyTorch.
"""

from __future__ import annotations

import codecs
import csv
import io
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from driqa_jax.errors import DataError

DELIMITERS = (",", ";", "\t")
Lines = list[tuple[int, list[str]]]
# In order of preference, matched as words of a header: "Subjective MOS", "mean_score". docs/DATA.md lists them.
SCORE_NAMES = ("mos", "dmos", "score", "rating", "quality", "mean", "opinion")
IMAGE_NAMES = (
    *("image", "image_name", "img_name", "dist_name", "distorted", "dist_img", "dist_path", "image_path", "img_path"),
    *("img", "filename", "file_name", "file", "path", "name", "image_id"),
)
REFERENCE_NAMES = ("reference", "reference_name", "ref_name", "ref_img", "ref_path", "ref")
# A column with one of these words holds statistics of the scores, or something else.
_OTHER = frozenset(
    (
        *("std", "stdev", "stddev", "sd", "sigma", "var", "variance", "se", "sem", "ci", "conf", "confidence", "error"),
        *("n", "num", "number", "count", "votes", "voters", "min", "max", "zscore", "z", "rank", "percentile"),
        *("split", "group", "subset", "degradation", "level", "id", "index", "row", "unnamed"),
        *("width", "height", "size"),
    )
)
Spelling = Callable[..., str]  # (name, value=None) -> text


class Table(NamedTuple):
    """A table of labels: `head` are its column names on line `line`, `lines` the rows below, as long as the head."""

    file: pathlib.Path
    delimiter: str
    line: int
    head: list[str]
    lines: Lines

    @property
    def lower(self) -> list[str]:
        """The column names in lower case."""
        return [cell.lower() for cell in self.head]

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

    def error(self, message: str) -> DataError:
        """An error at the header."""
        return DataError(self.file, self.line, message)

    def score_column(self, option: Spelling, chosen: str | None = None, names: Sequence[str] = SCORE_NAMES) -> int:
        """The index of the score column.

        `option` spells the option `score_column`, `chosen` is the user's value of it. `names`: words that name a
        score, in order of preference. Raises DataError listing the columns if no column or several match.
        """
        head, lower = self.head, self.lower
        listed = f"its columns are {', '.join(head)}"
        if chosen:
            if lower.count(chosen.lower()) != 1:
                many = "several columns" if chosen.lower() in lower else "no column"
                raise self.error(f"has {many} called {chosen}; {listed}")
            return lower.index(chosen.lower())
        kinds = [score_name(cell, names) for cell in head]
        for name in names:
            exact = [i for i, cell in enumerate(lower) if cell == name]
            matches = exact if len(exact) == 1 else [i for i, kind in enumerate(kinds) if kind == name]
            if matches:
                break
        else:
            known = {*IMAGE_NAMES, *REFERENCE_NAMES}
            matches = [
                i
                for i, cell in enumerate(head)
                if cell and self.numeric(i) and lower[i] not in known and not _OTHER.intersection(_words(cell))
            ]
        if len(matches) == 1:
            return matches[0]
        example = option("score_column", head[matches[0]] if matches else "NAME")
        which = f"{', '.join(head[i] for i in matches)} may all hold the scores" if matches else "no column of scores"
        raise self.error(f"{which}; {listed}; choose one, for example with {example}")

    def image_columns(self, score: int) -> tuple[int, int | None]:
        """The indices of the columns of image names and reference names (None if absent). Raises DataError."""
        head, lower = self.head, self.lower
        reference = next((lower.index(name) for name in REFERENCE_NAMES if name in lower), None)
        image = next((lower.index(name) for name in IMAGE_NAMES if name in lower and lower.index(name) != score), None)
        if image is not None:
            return image, reference
        before = [i for i in range(score) if i != reference and not _OTHER.intersection(_words(head[i]))]
        text = [i for i in before if not self.numeric(i)] or before
        if len(text) == 2 and reference is None:  # a meta_info file: reference, distorted, score
            reference = text.pop(0)
        if len(text) != 1:
            listed = ", ".join(head)
            raise self.error(f"has no column image; its columns are {listed}; name the column of image names image")
        return text[0], reference


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


def in_python(name: str, value: Any = None) -> str:
    """`mos_range=(1, 5)`."""
    return name if value is None else f"{name}={value!r}"


def in_config(name: str, value: Any = None) -> str:
    """`--config.data.mos_range="(1,5)"`."""
    if isinstance(value, tuple):
        value = f'"({",".join(map(str, value))})"'
    return f"--config.data.{name}" if value is None else f"--config.data.{name}={value}"


def in_command(name: str, value: Any = None) -> str:
    """`--mos-range 1 5`."""
    option = "--data-dir" if name == "images" else "--" + name.replace("_", "-")
    values = value if isinstance(value, tuple) else () if value is None else (value,)
    return " ".join([option, *map(str, values)])


def score_name(cell: str, names: Sequence[str] = SCORE_NAMES) -> str | None:
    """Which of `names` a column's name contains as a word; None if none, or if it is a statistic ("mos_std")."""
    words = _words(cell)
    if _OTHER.intersection(words):
        return None
    ends = [next((name for name in ("dmos", "mos") if word.endswith(name)), word.removesuffix("s")) for word in words]
    return next((name for name in names if name in ends or name in words), None)


def _words(cell: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", cell)]
