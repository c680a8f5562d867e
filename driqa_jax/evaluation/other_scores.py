"""Another metric's scores of the same pictures, from a CSV."""

import math
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from driqa_jax.data.label_tables import SCORE_NAMES, Table, number, read_table
from driqa_jax.errors import DataError

_NAMES = ("score", "prediction", "pred", *(name for name in SCORE_NAMES if name != "score"))


def read_scores(file: pathlib.Path, image_ids: Sequence[str]) -> np.ndarray:
    """The scores of these images, (N,) float64, from a CSV with a header and a line for each image.

    The columns are found by name, see `driqa_jax.data.label_tables` (`image` or `path`; `score` or `prediction`), as
    `driqa score` and `driqa evaluate --per-image` write them. An image is found by its id, or by the last part of its
    path if that is unique. The file may contain other images.

    Raises DataError with file and line if a score is not a finite number, or an image is repeated or absent.
    """
    delimiter, lines = read_table(file)
    if not lines:
        raise DataError(file, 1, "is empty; expected a header image,score and a line for each picture")
    (head_line, head), *lines = lines
    table = Table.of(file, delimiter, head_line, head, lines)
    score = table.score_column(lambda *unused: "a header that calls it score", names=_NAMES)
    image, _ = table.image_columns(score)
    wanted = {name: row for row, name in enumerate(image_ids)}
    short = Counter(_last(name) for name in image_ids)
    wanted |= {_last(name): row for row, name in enumerate(image_ids) if short[_last(name)] == 1}
    found, seen = np.full(len(image_ids), np.nan), {}
    for line, cells in table.lines:
        row = wanted.get(cells[image], wanted.get(_last(cells[image])))
        if row is None:
            continue
        name = cells[image]
        if row in seen:
            raise DataError(file, line, f"{name!r} is already on line {seen[row]}; keep one score per image")
        seen[row], value = line, number(cells[score], delimiter)
        if value is None:
            raise DataError(file, line, f"the score {cells[score]!r} of {name!r} is not a number")
        if not math.isfinite(value):
            fix = "leave the picture out of the split, or score it"
            raise DataError(file, line, f"the score of {name!r} is {cells[score]}; {fix}")
        found[row] = value
    absent = np.flatnonzero(np.isnan(found))
    if len(absent):
        first = image_ids[absent[0]]
        raise DataError(file, None, f"has no score of {first!r}, nor of {len(absent) - 1} others of {len(image_ids)}")
    return found


def _last(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
