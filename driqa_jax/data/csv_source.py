"""The user's own images with a CSV of scores, or with an unchanged IQA-PyTorch meta_info file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import pathlib

from driqa_jax.data.csv_lines import number, read_table, require_width
from driqa_jax.data.label_columns import Spelling, image_columns, in_python, score_column, score_name
from driqa_jax.data.source import Source
from driqa_jax.errors import DataError

# IQA-PyTorch writes splits as numbers, or in the words of the set's authors (KonIQ-10k: training, ...).
_RATING_COLUMNS = ("group", "subset", "reference", "degradation", "split")
_SPLIT_WORDS = {"0": "train", "1": "val", "2": "test", "training": "train", "validation": "val"}


@dataclasses.dataclass(frozen=True)
class Rating:
    """One line of the CSV, with its raw score; reference, subset and degradation are "" if the file has none."""

    image: str
    score: float
    split: str
    group: str
    line: int
    reference: str = ""
    subset: str = ""
    degradation: str = ""


class FolderSource(Source):
    """Images on disk with scores in a CSV file.

    `path`: the CSV, or a folder with exactly one. The delimiter is a comma, semicolon or tab. Columns are found by
    name, see `driqa_jax.data.label_columns`: `image,mos` and optionally `split`, `group`, `reference`, `subset`,
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
        file = find_csv(pathlib.Path(path))
        root = pathlib.Path(images) if images else file.parent
        column, ratings = read_ratings(file, split_column, mos_range is not None, score_column, option)
        check_images(file, root, ratings, option)
        self._root = root
        name = name or file.stem
        super().__init__(
            name,
            to_unit_range(file, ratings, mos_range, option),
            image_id=[rating.image for rating in ratings],
            **{key: [getattr(rating, key) for rating in ratings] for key in _RATING_COLUMNS},
            row=range(len(ratings)),
            dataset=[name] * len(ratings),
        )
        self.label_files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
        worst, best = mos_range or (0.0, 1.0)
        scores = [rating.score for rating in ratings]
        self.labels_from = (
            f"{file}: scores from the column {column!r}, {min(scores):g} to {max(scores):g}, on a scale from {worst:g} "
            f"(worst) to {best:g} (best): {'higher' if best > worst else 'lower'} is better"
        )

    def encoded(self, i: int) -> bytes:
        return (self._root / self.column("image_id")[i]).read_bytes()


def find_csv(path: pathlib.Path) -> pathlib.Path:
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


def read_ratings(
    file: pathlib.Path,
    split_column: str | None = None,
    scale_is_stated: bool = False,
    chosen_column: str | None = None,
    option: Spelling = in_python,
) -> tuple[str, list[Rating]]:
    """The name of the score column, and the ratings of a CSV with unscaled scores.

    `chosen_column`: the user's choice of score column. Raises DataError for a missing or ambiguous column, or a value
    that is not a finite number.
    """
    delimiter, lines = read_table(file)
    head_line, head, lines = _headed(file, lines)
    require_width(file, head, lines)
    lower = [cell.lower() for cell in head]

    def numeric(column):
        return 2 * sum(number(_cell(row, column), delimiter) is not None for _, row in lines) > len(lines)

    mos = score_column(file, head_line, head, numeric, option, chosen_column)
    if score_name(head[mos]) == "dmos" and not scale_is_stated:
        # CSIQ's dmos is better when lower, KADID-10k's when higher, so never guess.
        raise DataError(
            file,
            head_line,
            f"the scores are named {head[mos]}: say which end is best, for example {option('mos_range', (1, 0))} where "
            f"0 is best, {option('mos_range', (1, 5))} where 5 is",
        )
    image, reference = image_columns(file, head_line, head, numeric, mos)
    split = _split_index(file, head_line, head, split_column, option)
    known = {name: lower.index(name) for name in ("subset", "degradation") if name in lower}
    group = lower.index("group") if "group" in lower else reference
    _require_one_decimal_mark(file, lines, mos)

    def rating(line, row):
        row = row + [""] * (len(head) - len(row))
        if not row[image]:
            raise DataError(file, line, "has no image name")
        return Rating(
            image=os.path.normpath(row[image]).replace(os.sep, "/"),
            score=_score(file, line, row[mos], delimiter),
            split="train" if split is None else _split_word(file, line, row[split]),
            group=(row[group] if group is not None else "") or row[image],
            line=line,
            reference="" if reference is None else row[reference],
            **{name: row[column] for name, column in known.items()},
        )

    return head[mos], [rating(line, row) for line, row in lines]


def _headed(file, lines):
    """The header's line number, its columns, and the lines below; a table of two columns may omit the header."""
    if not lines or len(lines) == 1 and number(_cell(lines[0][1], 1), ";") is None:
        raise DataError(file, 1, "has no scores; expected a header image,mos and a line for each picture")
    line, head = lines[0]
    while head and not head[-1]:
        head = head[:-1]
    if all(number(cell, ";") is None for cell in head[1:]):
        return line, head, lines[1:]
    if len(head) == 2:
        return line, ["column 1", "column 2"], lines
    raise DataError(file, line, "the first line holds a score; put a header image,mos above it")


def _cell(row, column):
    return row[column] if column < len(row) else ""


def _require_one_decimal_mark(file, lines, column):
    commas = [line for line, row in lines if "," in _cell(row, column)]
    if commas and len(commas) < len(lines) and any("." in _cell(row, column) for _, row in lines):
        raise DataError(file, commas[0], "the score has a decimal comma, others have a point; use points everywhere")


def check_images(file: pathlib.Path, root: pathlib.Path, ratings: list[Rating], option: Spelling = in_python) -> None:
    """Raises DataError for an image that is listed twice or does not exist."""
    lines: dict[str, int] = {}
    for rating in ratings:
        if (first := lines.setdefault(rating.image, rating.line)) != rating.line:
            raise DataError(
                file, rating.line, f"{rating.image} is already listed on line {first}; keep one score per image"
            )
        path = root / rating.image
        if not path.is_file():
            raise DataError(file, rating.line, f"no picture {path}{_name_hint(path, option)}")


def to_unit_range(
    file: pathlib.Path,
    ratings: list[Rating],
    mos_range: tuple[float, float] | None,
    option: Spelling = in_python,
) -> list[float]:
    """Scores mapped to [0, 1], higher is better. Raises DataError for a score outside the scale."""
    if mos_range is None:
        for rating in ratings:
            if not 0 <= rating.score <= 1:
                raise DataError(
                    file,
                    rating.line,
                    f"mos {rating.score:g} lies outside [0, 1]; state the scale, worst score first, for example "
                    f"{option('mos_range', (1, 5))}, or {option('mos_range', (100, 0))} where lower is better",
                )
        return [rating.score for rating in ratings]
    worst, best = (float(end) for end in mos_range)
    if worst == best or not math.isfinite(worst - best):
        raise ValueError(f"{option('mos_range')} must be two different numbers (worst, best); got {worst:g}, {best:g}")
    for rating in ratings:
        if not min(worst, best) <= rating.score <= max(worst, best):
            stated = option("mos_range", tuple(int(end) if end.is_integer() else end for end in (worst, best)))
            raise DataError(file, rating.line, f"mos {rating.score:g} lies outside {stated}; correct one of them")
    return [(rating.score - worst) / (best - worst) for rating in ratings]


def _split_index(file, line, head, chosen, option):
    lower = [cell.lower() for cell in head]
    if chosen:
        if chosen.lower() not in lower:
            raise DataError(file, line, f"has no column {chosen}; its columns are {', '.join(head)}")
        return lower.index(chosen.lower())
    matches = [i for i, cell in enumerate(lower) if "split" in cell]
    if len(matches) > 1:
        names = ", ".join(head[i] for i in matches)
        choose = option("split_column", head[matches[0]])
        raise DataError(file, line, f"has several splits ({names}); choose one, for example {choose}")
    return matches[0] if matches else None


def _split_word(file, line, cell):
    if not cell:
        raise DataError(file, line, "has no split; write train, val or test")
    word = cell.lower()
    return _SPLIT_WORDS.get(word, word)


def _score(file, line, cell, delimiter):
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
