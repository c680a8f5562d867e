"""BIQ2021 as its authors distribute it: `Images/`, and two CSV files with the official split.

Its traps: the CSV files open with a BOM and end every row with empty cells, and one picture's name differs in case
from the name in the CSV.
"""

from __future__ import annotations

import csv
import pathlib
from typing import NamedTuple

from driqa_jax.data.errors import DataError

SPLITS = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}
COUNTS = {"train": 10000, "test": 2000}
HEADER = ["Image Name", "MOS"]


class Rating(NamedTuple):
    """One row: the picture's file (None where it is absent), its name in the CSV, its MOS in [0, 1]."""

    file: pathlib.Path | None
    name: str
    mos: float

    @property
    def subset(self) -> str:
        """ss01, pictures of a camera archive; ss02, made on purpose; ss03, photographs of the web."""
        return self.name[:4]


def read_ratings(folder: pathlib.Path) -> dict[str, list[Rating]]:
    """Ratings by split, in the order of the CSV files.

    Raises DataError, naming file and line: a CSV file is absent or of another layout, a score is no number in [0, 1],
    a name stands twice.
    """
    images = folder / "Images"
    if not images.is_dir():
        raise DataError(images, None, "no such folder; give the folder that holds BIQ2021's Images and its CSV files")
    on_disk = {file.name.lower(): file for file in images.iterdir()}
    seen: dict[str, str] = {}
    return {split: _read(folder / name, on_disk, seen) for split, name in SPLITS.items()}


def _read(file, on_disk, seen):
    if not file.is_file():
        raise DataError(file, None, "no such file; it comes with BIQ2021")
    ratings = []
    with file.open(newline="", encoding="utf-8-sig") as text:
        for line, row in enumerate(csv.reader(text), start=1):
            if line == 1:
                if row[:2] != HEADER:
                    raise DataError(file, 1, f"the header is {row[:2]}, not {HEADER}: not BIQ2021's file")
                continue
            if not any(row):
                continue
            name, score = row[0].strip(), row[1].strip() if len(row) > 1 else ""
            try:
                mos = float(score)
            except ValueError:
                raise DataError(file, line, f"the score {score!r} of {name!r} is not a number") from None
            if not 0 <= mos <= 1:
                raise DataError(file, line, f"the score {score} of {name!r} is not in [0, 1]")
            if name.lower() in seen:
                raise DataError(file, line, f"{name!r} stands already in {seen[name.lower()]}")
            seen[name.lower()] = f"{file.name}, line {line}"
            ratings.append(Rating(on_disk.get(name.lower()), name, mos))
    return ratings
