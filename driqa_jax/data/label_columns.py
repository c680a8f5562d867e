"""Find the columns of image names and scores in a label table by name, and spell the options that choose them.

Position decides only if the names leave one choice, as in the meta_info files of IQA-PyTorch.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from driqa_jax.data.csv_lines import Table
from driqa_jax.errors import DataError

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


def score_column(table: Table, option: Spelling, chosen: str | None = None, names: Sequence[str] = SCORE_NAMES) -> int:
    """The index of the score column.

    `option` spells the option `score_column`, `chosen` is the user's value of it. `names`: words that name a score, in
    order of preference. Raises DataError listing the columns if no column or several match.
    """
    head, lower = table.head, [cell.lower() for cell in table.head]
    listed = f"its columns are {', '.join(head)}"
    if chosen:
        if lower.count(chosen.lower()) != 1:
            many = "several columns" if chosen.lower() in lower else "no column"
            raise DataError(table.file, table.line, f"has {many} called {chosen}; {listed}")
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
            if cell and table.numeric(i) and lower[i] not in known and not _OTHER.intersection(_words(cell))
        ]
    if len(matches) == 1:
        return matches[0]
    example = option("score_column", head[matches[0]] if matches else "NAME")
    which = f"{', '.join(head[i] for i in matches)} may all hold the scores" if matches else "no column of scores"
    raise DataError(table.file, table.line, f"{which}; {listed}; choose one, for example with {example}")


def image_columns(table: Table, score: int) -> tuple[int, int | None]:
    """The indices of the columns of image names and reference names (None if absent). Raises DataError."""
    head, lower = table.head, [cell.lower() for cell in table.head]
    reference = next((lower.index(name) for name in REFERENCE_NAMES if name in lower), None)
    image = next((lower.index(name) for name in IMAGE_NAMES if name in lower and lower.index(name) != score), None)
    if image is not None:
        return image, reference
    before = [i for i in range(score) if i != reference and not _OTHER.intersection(_words(head[i]))]
    text = [i for i in before if not table.numeric(i)] or before
    if len(text) == 2 and reference is None:  # a meta_info file: reference, distorted, score
        reference = text.pop(0)
    if len(text) != 1:
        message = f"has no column image; its columns are {', '.join(head)}; name the column of image names image"
        raise DataError(table.file, table.line, message)
    return text[0], reference


def score_name(cell: str, names: Sequence[str] = SCORE_NAMES) -> str | None:
    """Which of `names` a column's name contains as a word; None if none, or if it is a statistic ("mos_std")."""
    words = _words(cell)
    if _OTHER.intersection(words):
        return None
    ends = [next((name for name in ("dmos", "mos") if word.endswith(name)), word.removesuffix("s")) for word in words]
    return next((name for name in names if name in ends or name in words), None)


def _words(cell: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", cell)]
