"""Which columns of a table hold a picture's name and its score: by their names, never by their order.

A place decides only where the names leave one choice, as in the meta_info files of IQA-PyTorch.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Sequence

from driqa_jax.data.errors import DataError
from driqa_jax.data.option_names import Spelling

# The first that a header holds as a word decides: "Subjective MOS", "mean_score". docs/DATA.md lists them.
SCORE_NAMES = ("mos", "dmos", "score", "rating", "quality", "mean", "opinion")
IMAGE_NAMES = (
    *("image", "image_name", "img_name", "dist_name", "distorted", "dist_img", "dist_path", "image_path", "img_path"),
    *("img", "filename", "file_name", "file", "path", "name", "image_id"),
)
REFERENCE_NAMES = ("reference", "reference_name", "ref_name", "ref_img", "ref_path", "ref")
# A column with one of these words says something about the scores, or something else.
_BESIDE = frozenset(
    (
        *("std", "stdev", "stddev", "sd", "sigma", "var", "variance", "se", "sem", "ci", "conf", "confidence", "error"),
        *("n", "num", "number", "count", "votes", "voters", "min", "max", "zscore", "z", "rank", "percentile"),
        *("split", "group", "subset", "degradation", "level", "id", "index", "row", "unnamed"),
        *("width", "height", "size"),
    )
)

IsNumeric = Callable[[int], bool]


def score_column(
    file: pathlib.Path,
    line: int,
    head: Sequence[str],
    numeric: IsNumeric,
    option: Spelling,
    chosen: str | None = None,
    names: Sequence[str] = SCORE_NAMES,
) -> int:
    """The place of the column of scores.

    Args:
      file, line: of the header, for errors.
      head: names of the columns.
      numeric: whether most cells of a column are numbers.
      option: how the option `score_column` is spelled.
      chosen: what the user gave for it.
      names: words that name a score, the most telling first.

    Raises DataError, listing the columns, where the names leave more than one choice or none.
    """
    lower = [cell.lower() for cell in head]
    listed = f"its columns are {', '.join(head)}"
    if chosen:
        if lower.count(chosen.lower()) != 1:
            many = "several columns" if chosen.lower() in lower else "no column"
            raise DataError(file, line, f"has {many} called {chosen}; {listed}")
        return lower.index(chosen.lower())
    kinds = [score_name(cell, names) for cell in head]
    for name in names:
        exact = [place for place, cell in enumerate(lower) if cell == name]
        found = exact if len(exact) == 1 else [place for place, kind in enumerate(kinds) if kind == name]
        if found:
            break
    else:
        known = {*IMAGE_NAMES, *REFERENCE_NAMES}
        found = [
            place
            for place, cell in enumerate(head)
            if cell and numeric(place) and lower[place] not in known and not _BESIDE.intersection(_words(cell))
        ]
    if len(found) == 1:
        return found[0]
    example = option("score_column", head[found[0]] if found else "NAME")
    which = f"{', '.join(head[place] for place in found)} may all hold the scores" if found else "no column of scores"
    raise DataError(file, line, f"{which}; {listed}; choose one, for example with {example}")


def image_columns(
    file: pathlib.Path, line: int, head: Sequence[str], numeric: IsNumeric, score: int
) -> tuple[int, int | None]:
    """The places of the picture's name and of its reference's (None: there is none). Raises DataError."""
    lower = [cell.lower() for cell in head]
    reference = next((lower.index(name) for name in REFERENCE_NAMES if name in lower), None)
    image = next((lower.index(name) for name in IMAGE_NAMES if name in lower and lower.index(name) != score), None)
    if image is not None:
        return image, reference
    before = [place for place in range(score) if place != reference and not _BESIDE.intersection(_words(head[place]))]
    text = [place for place in before if not numeric(place)] or before
    if len(text) == 2 and reference is None:  # of a meta_info file: reference, distorted, score
        reference = text.pop(0)
    if len(text) != 1:
        raise DataError(
            file, line, f"has no column image; its columns are {', '.join(head)}; name the one of the pictures image"
        )
    return text[0], reference


def score_name(cell: str, names: Sequence[str] = SCORE_NAMES) -> str | None:
    """Which of `names` a column's name holds as a word, None where none or where it says more: "mos_std"."""
    words = _words(cell)
    if _BESIDE.intersection(words):
        return None
    ends = [next((name for name in ("dmos", "mos") if word.endswith(name)), word.removesuffix("s")) for word in words]
    return next((name for name in names if name in ends or name in words), None)


def _words(cell: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", cell)]
