"""BIQ2021 as its authors distribute it: `Images/`, and two CSV files with the official split.

Its traps: the CSV files open with a BOM and end every row with empty cells, and one picture's name differs in
case from the name in the CSV.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from driqa_jax.data.csv_lines import read_lines
from driqa_jax.data.errors import DataError

IMAGES = "Images"
SPLITS = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}
COUNTS = {"train": 10000, "test": 2000}
HEADER = ["Image Name", "MOS"]


class Rating(NamedTuple):
    """One row: the picture's file (None where absent), its name in the CSV, its MOS in [0, 1], its line."""

    file: pathlib.Path | None
    name: str
    mos: float
    line: int

    @property
    def subset(self) -> str:
        """ss01, pictures of a camera archive; ss02, made on purpose; ss03, photographs of the web."""
        return self.name[:4]


class Pictures:
    """The files of `Images/`, found by name whatever its case; the exact name wins.

    Raises DataError where there is no such folder.
    """

    def __init__(self, folder: pathlib.Path):
        images = folder / IMAGES
        if not images.is_dir():
            raise DataError(
                images, None, "no such folder; give the folder that holds BIQ2021's Images and its CSV files"
            )
        self._exact = {file.name: file for file in images.iterdir()}
        self._lower = {name.lower(): file for name, file in self._exact.items()}

    def find(self, name: str) -> pathlib.Path | None:
        """The file of a picture, None where it is absent."""
        return self._exact.get(name) or self._lower.get(name.lower())


def read_ratings(folder: pathlib.Path) -> dict[str, list[Rating]]:
    """Ratings by split, in the order of the CSV files.

    Raises DataError, naming file and line: a CSV file is absent or of another layout, a score is no number in
    [0, 1], a name stands twice.
    """
    pictures, seen = Pictures(folder), {}
    return {split: read_split(folder, split, pictures, seen) for split in SPLITS}


def read_split(
    folder: pathlib.Path, split: str, pictures: Pictures | None, seen: dict[str, str]
) -> list[Rating]:
    """The ratings of one split; `seen` holds where each name stands, and grows. Raises as `read_ratings`."""
    file = folder / SPLITS[split]
    if not file.is_file():
        raise DataError(file, None, "no such file; it comes with BIQ2021")
    lines = read_lines(file)
    if not lines or lines[0][1][:2] != HEADER:
        found = lines[0][1][:2] if lines else "absent"
        raise DataError(file, 1, f"the header is {found}, not {HEADER}: not BIQ2021's file")
    if len(lines) < 2:
        raise DataError(file, 1, "holds no rating below its header")
    ratings = []
    for line, row in lines[1:]:
        name, mos = _name_and_mos(file, line, row)
        if name.lower() in seen:
            raise DataError(file, line, f"{name!r} stands already in {seen[name.lower()]}")
        seen[name.lower()] = f"{file.name}, line {line}"
        ratings.append(Rating(pictures.find(name) if pictures else None, name, mos, line))
    return ratings


def _name_and_mos(file: pathlib.Path, line: int, row: list[str]) -> tuple[str, float]:
    name, score = row[0], row[1] if len(row) > 1 else ""
    if not name:
        raise DataError(file, line, "names no picture")
    try:
        mos = float(score)
    except ValueError:
        raise DataError(file, line, f"the score {score!r} of {name!r} is not a number") from None
    if not 0 <= mos <= 1:
        raise DataError(file, line, f"the score {score} of {name!r} is not in [0, 1]")
    return name, mos
