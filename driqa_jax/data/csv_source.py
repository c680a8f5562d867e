"""The user's own images with a CSV of scores, or an IQA-PyTorch meta_info file; another metric's scores from a CSV."""

import math
import os
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from driqa_jax.data.datasets._layout import Rating
from driqa_jax.data.label_tables import SCORE_NAMES, Spelling, Table, in_python, number, read_table, score_name
from driqa_jax.data.source import Source
from driqa_jax.errors import DataError
from driqa_jax.io import file_sha256

# IQA-PyTorch writes splits as numbers, or in the words of the set's authors (KonIQ-10k: training, ...).
_SPLIT_WORDS = {"0": "train", "1": "val", "2": "test", "training": "train", "validation": "val"}
_METRIC_NAMES = ("score", "prediction", "pred", *(name for name in SCORE_NAMES if name != "score"))


class FolderSource(Source):
    """Images on disk with scores in a CSV file.

    `path`: the CSV, or a folder with exactly one. The delimiter is a comma, semicolon or tab. Columns are found by
    name, see `driqa_jax.data.label_tables`: `image,mos` and optionally `split`, `group`, `reference`, `subset`,
    `degradation`. Without `group`, the reference is the group; without a split column every image is "train".
    `images`: the folder that image names are relative to (default: the CSV's). `mos_range`: the (worst, best) score,
    such as (1, 5), or (100, 0) if lower is better; optional if all scores lie in [0, 1] and their column is not named
    dmos. `score_column` and `split_column` choose among several candidates. `option` spells these options in errors.

    Raises DataError with the file and line.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        images: str | os.PathLike | None = None,
        mos_range: tuple[float, float] | None = None,
        split_column: str | None = None,
        name: str | None = None,
        score_column: str | None = None,
        option: Spelling = in_python,
    ):
        file = _find_csv(pathlib.Path(path))
        self._root = pathlib.Path(images) if images else file.parent
        column, ratings = _ratings(_read(file), split_column, mos_range is not None, score_column, option)
        _require_images(self._root, ratings, option)
        mos = _in_unit_range(ratings, mos_range, option)
        keys = ("image_id", "group", "subset", "reference", "degradation", "split")
        columns = {key: [getattr(rating, key) for rating in ratings] for key in keys}
        super().__init__(name or file.stem, mos, row=range(len(ratings)), **columns)
        self.label_files = {file.name: file_sha256(file)}
        worst, best = mos_range or (0, 1)
        scores = [rating.raw for rating in ratings]
        self.labels_from = (
            f"{file}: scores from the column {column!r}, {min(scores):g} to {max(scores):g}, on a scale from {worst:g} "
            f"(worst) to {best:g} (best): {'higher' if best > worst else 'lower'} is better"
        )

    def encoded(self, i: int) -> bytes:
        return (self._root / self.column("image_id")[i]).read_bytes()


def _find_csv(path: pathlib.Path) -> pathlib.Path:
    """The CSV file at a path or in a folder. Raises DataError if there is none, or more than one."""
    if not path.exists():
        raise DataError(path, None, "no such file or folder; give a CSV of scores with the columns image,mos")
    if path.is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".csv")
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DataError(path, None, f"expected one CSV file in this folder, found: {names}; name the file itself")
    return files[0]


def _ratings(
    table: Table, split_column: str | None, scale_is_stated: bool, chosen_column: str | None, option: Spelling
) -> tuple[str, list[Rating]]:
    """The name of the score column, and the ratings of a table with unscaled scores.

    `chosen_column`: the user's choice of score column. Raises DataError for a missing or ambiguous column, or a value
    that is not a finite number.
    """
    file, head, lower = table.file, table.head, table.lower
    score = table.score_column(option, chosen_column)
    if score_name(head[score]) == "dmos" and not scale_is_stated:
        # CSIQ's dmos is better when lower, KADID-10k's when higher, so never guess.
        examples = f"{option('mos_range', (1, 0))} where 0 is best, {option('mos_range', (1, 5))} where 5 is"
        raise table.error(f"the scores are named {head[score]}: say which end is best, for example {examples}")
    image, reference = table.image_columns(score)
    split = _split_column(table, split_column, option)
    texts = {} if reference is None else {"reference": reference, "group": reference}
    texts |= {name: lower.index(name) for name in ("subset", "degradation", "group") if name in lower}
    _require_one_decimal_mark(table, score)

    def rating(line: int, row: list[str]) -> Rating:
        if not row[image]:
            raise DataError(file, line, "has no image name")
        cells = {name: row[column] for name, column in texts.items()}
        cells["group"] = cells.get("group") or row[image]
        name = os.path.normpath(row[image]).replace(os.sep, "/")
        mos = _score(file, line, row[score], table.delimiter)
        if split is not None and not row[split]:
            raise DataError(file, line, "has no split; write train, val or test")
        part = "train" if split is None else row[split].lower()
        return Rating(name, name, mos, file, line, split=_SPLIT_WORDS.get(part, part), **cells)

    return head[score], [rating(line, row) for line, row in table.lines]


def _read(file: pathlib.Path) -> Table:
    """The table of a file; a table of two columns may omit the header."""
    delimiter, lines = read_table(file)
    if not lines or len(lines) == 1 and number("".join(lines[0][1][1:2]), ";") is None:
        raise DataError(file, 1, "has no scores; expected a header image,mos and a line for each picture")
    line, head = lines[0]
    while head and not head[-1]:
        head = head[:-1]
    if all(number(cell, ";") is None for cell in head[1:]):
        return Table.of(file, delimiter, line, head, lines[1:])
    if len(head) == 2:
        return Table.of(file, delimiter, line, ["column 1", "column 2"], lines)
    raise DataError(file, line, "the first line holds a score; put a header image,mos above it")


def _require_one_decimal_mark(table: Table, column: int) -> None:
    commas = [line for line, row in table.lines if "," in row[column]]
    if commas and len(commas) < len(table.lines) and any("." in row[column] for _, row in table.lines):
        message = "the score has a decimal comma, others have a point; use points everywhere"
        raise DataError(table.file, commas[0], message)


def _require_images(root: pathlib.Path, ratings: list[Rating], option: Spelling) -> None:
    """Raises DataError for an image that is listed twice or does not exist."""
    lines: dict[str, int | None] = {}
    for rating in ratings:
        if (first := lines.setdefault(rating.image_id, rating.line)) != rating.line:
            message = f"{rating.image_id} is already listed on line {first}; keep one score per image"
            raise DataError(rating.file, rating.line, message)
        path = root / rating.path
        if not path.is_file():
            raise DataError(rating.file, rating.line, f"no picture {path}{_name_hint(path, option)}")


def _in_unit_range(ratings: list[Rating], mos_range: tuple[float, float] | None, option: Spelling) -> list[float]:
    """Scores mapped to [0, 1], higher is better. Raises DataError for a score outside the scale."""
    worst, best = (float(end) for end in mos_range or (0, 1))
    if worst == best or not math.isfinite(worst - best):
        raise ValueError(f"{option('mos_range')} must be two different numbers (worst, best); got {worst:g}, {best:g}")
    stated = option("mos_range", tuple(int(end) if end.is_integer() else end for end in (worst, best)))
    advice = f"{stated}; correct one of them"
    if mos_range is None:
        examples = f"{option('mos_range', (1, 5))}, or {option('mos_range', (100, 0))} where lower is better"
        advice = f"[0, 1]; state the scale, worst score first, for example {examples}"
    for rating in ratings:
        if not min(worst, best) <= rating.raw <= max(worst, best):
            raise DataError(rating.file, rating.line, f"mos {rating.raw:g} lies outside {advice}")
    return [(rating.raw - worst) / (best - worst) for rating in ratings]


def _split_column(table: Table, chosen: str | None, option: Spelling) -> int | None:
    """The index of the column of splits, or None."""
    head, lower = table.head, table.lower
    if chosen:
        if chosen.lower() not in lower:
            raise table.error(f"has no column {chosen}; its columns are {', '.join(head)}")
        return lower.index(chosen.lower())
    matches = [i for i, cell in enumerate(lower) if "split" in cell]
    if len(matches) > 1:
        names = ", ".join(head[i] for i in matches)
        choose = option("split_column", head[matches[0]])
        raise table.error(f"has several splits ({names}); choose one, for example {choose}")
    return matches[0] if matches else None


def _score(file: pathlib.Path, line: int, cell: str, delimiter: str) -> float:
    value = number(cell, delimiter)
    if value is None:
        decimal = "; write a decimal point, not a comma" if number(cell, ";") is not None else ""
        raise DataError(file, line, f"the score {cell!r} is not a number{decimal}")
    if not math.isfinite(value):
        raise DataError(file, line, f"the score is {cell}; remove the line or give a number")
    return value


def _name_hint(path: pathlib.Path, option: Spelling) -> str:
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            if other.name.lower() == path.name.lower():
                return f" (there is {other.name}: upper and lower case differ)"
    return f"; correct the name, or set the image folder with {option('images', 'FOLDER')}"


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
    score = table.score_column(lambda *unused: "a header that calls it score", names=_METRIC_NAMES)
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
