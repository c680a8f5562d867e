"""Shared by all data sets: a rating, a set's layout, image files found by name regardless of case, and label tables.

Tables are CSV with a header, lines of words, .xlsx sheets and .mat vectors.
"""

import dataclasses
import functools
import hashlib
import math
import pathlib
import posixpath
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from driqa_jax.data.label_tables import Lines, read_lines
from driqa_jax.errors import DataError
from driqa_jax.io import file_sha256


class Rating(NamedTuple):
    """One rated image, as listed in a label file.

    image_id: name in results and splits, the same in every copy of the set. path: of the image, relative to the set's
    folder or one of `Layout.images`. raw: the authors' score. std: their standard deviation of the votes (nan: none).
    reference, degradation, group (of images that a split must not separate): "" and level: 0 if unknown. file, line:
    source of the score (a .mat file has no lines).
    """

    image_id: str
    path: str
    raw: float
    file: pathlib.Path
    line: int | None = None
    std: float = math.nan
    reference: str = ""
    degradation: str = ""
    level: int = 0
    subset: str = ""
    split: str = "train"
    group: str = ""

    @property
    def source(self) -> str:
        """The label file's name and the line, for messages."""
        return self.file.name if self.line is None else f"{self.file.name}, line {self.line}"


@dataclasses.dataclass(frozen=True)
class Layout:
    """A data set as its authors distribute it.

    title, homepage, citation: for people. scores: their meaning in words. scale: the raw scores that map to MOS 0 and
    1; values beyond are clipped. limits: the lowest and highest possible raw score (None: the ends of the scale).
    images: image folders. labels: label files or a folder of them; a tuple lists alternatives, the preferred first.
    counts: number of ratings by official split ("train" alone if there is none). read: yields the ratings of the set's
    folder in the authors' order, raises DataError. top: the folder that the archive unpacks to. split_optional: a label
    file without the official split is accepted, and everything is "train". releases: versions of the prepared set with
    their changes, oldest first.
    """

    title: str
    homepage: str
    citation: str
    scores: str
    scale: tuple[float, float]
    images: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]
    counts: Mapping[str, int]
    read: Callable[[pathlib.Path], Iterator[Rating]]
    limits: tuple[float, float] | None = None
    top: str = ""
    split_optional: bool = False
    releases: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"1.0.0": "First."})

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """The folder of the label files: `folder`, or `top` inside it if that contains them.

        Raises DataError if neither an image folder nor a label file of the set exists.
        """
        names = self.label_names()
        is_inside = (folder / self.top).is_dir() and not any((folder / name).exists() for name in names)
        root = folder / self.top if is_inside else folder
        if not any((root / part).exists() for part in (*self.images, *names)):
            expected = ", ".join(map(repr, (*self.images, *names)))
            raise DataError(folder, None, f"nothing of {self.title} is here; expected {expected}")
        return root

    def label_names(self) -> list[str]:
        """The names of all label files, including alternatives."""
        return [name for entry in self._alternatives() for name in entry]

    def label_sha256(self, root: pathlib.Path) -> dict[str, str]:
        """sha256 by name of each label file that is read; for a folder, of its files' hashes in name order."""
        names = [next((n for n in entry if (root / n).exists()), entry[0]) for entry in self._alternatives()]
        return {name: _sha256(root / name) for name in names}

    def _alternatives(self) -> list[tuple[str, ...]]:
        return [(entry,) if isinstance(entry, str) else entry for entry in self.labels]

    def unit(self, raw: float) -> float:
        """A raw score as MOS in [0, 1], higher is better."""
        worst, best = self.scale
        return min(max((raw - worst) / (best - worst), 0.0), 1.0)

    def ratings(self, root: pathlib.Path) -> Iterator[Rating]:
        """The set's ratings in the authors' order.

        Raises DataError with file and line at the first defect: a label file that is missing or has another layout, a
        score outside `limits`, an image rated twice.
        """
        lowest, highest = self.limits or sorted(self.scale)
        ratings: dict[str, Rating] = {}
        for rating in self.read(root):
            if not lowest <= rating.raw <= highest:  # nan too
                outside = f"the score {rating.raw:g} of {rating.image_id!r} is not in [{lowest:g}, {highest:g}]"
                message = f"{outside}, where {self.title} has {self.scores}: is this the right label file?"
                raise DataError(rating.file, rating.line, message)
            before = ratings.setdefault(rating.image_id.lower(), rating)
            if before is not rating:
                raise DataError(rating.file, rating.line, f"{rating.image_id!r} is already listed in {before.source}")
            yield rating

    def expected(self, splits: set[str]) -> dict[str, int]:
        """The expected numbers of ratings, given the splits that were found."""
        if self.split_optional and splits == {"train"}:
            return {"train": sum(self.counts.values())}
        return dict(self.counts)


def find_images(layout: Layout, root: pathlib.Path, ratings: Sequence[Rating]) -> list[pathlib.Path | None]:
    """The image file of each rating, or None if it is missing. Letter case is ignored; an exact match wins."""
    folders = [root, *(root / name for name in (*layout.images, layout.top))]

    @functools.cache
    def listing(folder: pathlib.Path) -> dict[str, pathlib.Path]:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return {file.name.lower(): file for file in files} | {file.name: file for file in files}

    def find(here: pathlib.Path, names: list[str]) -> pathlib.Path | None:
        if not names:
            return here
        inside = listing(here).get(names[0]) or listing(here).get(names[0].lower())
        return find(inside, names[1:]) if inside else None

    paths = (rating.path.split("/") for rating in ratings)
    return [next(filter(None, (find(folder, names) for folder in folders)), None) for names in paths]


def number(file: pathlib.Path, line: int | None, text: str, of: str) -> float:
    """The number in a cell. Raises DataError if it is not a number."""
    try:
        return float(text)
    except ValueError:
        raise DataError(file, line, f"the score {text!r} of {of!r} is not a number") from None


def rated(file: pathlib.Path, line: int | None, name: str, score: str, **labels: Any) -> Rating:
    """The rating of the image `name` from the text of its score. Raises DataError if that is not a number."""
    return Rating(name, name, number(file, line, score, name), file, line)._replace(**labels)


def require_file(file: pathlib.Path, title: str) -> pathlib.Path:
    """The file itself. Raises DataError if it does not exist."""
    if not file.is_file():
        raise DataError(file, None, f"no such file; it comes with {title}")
    return file


def _sha256(path: pathlib.Path) -> str:
    if path.is_dir():
        parts = [file_sha256(file) for file in sorted(path.iterdir()) if file.is_file()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    return file_sha256(path)


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
    import scipy.io

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
    for position, row in enumerate(rows, start=1):
        cells: list[str] = []
        for cell in row:
            column = _column(cell.get("r", ""), len(cells))
            cells += [""] * (column - len(cells)) + [_text(cell, shared)]
        if any(cells):
            yield int(row.get("r", position)), cells


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
