"""One's own pictures with a CSV of scores, or an IQA-PyTorch meta_info file read as it is."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import pathlib

from driqa_jax.data import label_columns
from driqa_jax.data.csv_lines import number, read_table, require_width
from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source
from driqa_jax.data.option_names import Spelling, in_python

# IQA-PyTorch writes its splits as numbers, or as the words of the set's authors (KonIQ-10k: training, ...).
_SPLIT_WORDS = {"0": "train", "1": "val", "2": "test", "training": "train", "validation": "val"}


@dataclasses.dataclass(frozen=True)
class Rating:
    """One line of the CSV: the picture's name, its raw score, its split and group, and the line number.

    reference, subset, degradation: "" where the file names none.
    """

    image: str
    score: float
    split: str
    group: str
    line: int
    reference: str = ""
    subset: str = ""
    degradation: str = ""


class FolderSource(Source):
    """Pictures on disk scored by a CSV file.

    `path`: the CSV, or a folder that holds exactly one. Cells are split by commas, semicolons or tabs. Columns are
    found by name, see `driqa_jax.data.label_columns`: `image,mos`, and if you like `split`, `group`, `reference`,
    `subset`, `degradation`; meta_info files of IQA-PyTorch are read as they are. A reference is a group, too.
    `images`: the folder that image names start from (default: where the CSV lies). `mos_range`: the (worst, best)
    score of the scale, as in (1, 5), or (100, 0) where lower is better; it may be left out where all scores lie in
    [0, 1] and their column is not named dmos. `score_column` and `split_column` choose among several. Without a split
    column every picture is "train". `option` spells these options in errors.

    Raises DataError naming the file and the line.
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
        check_pictures(file, root, ratings, option)
        self._root = root
        name = name or file.stem
        super().__init__(
            name,
            to_unit_range(file, ratings, mos_range, option),
            image_id=[rating.image for rating in ratings],
            group=[rating.group for rating in ratings],
            subset=[rating.subset for rating in ratings],
            reference=[rating.reference for rating in ratings],
            degradation=[rating.degradation for rating in ratings],
            row=range(len(ratings)),
            split=[rating.split for rating in ratings],
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
    """The CSV file meant by a path. Raises DataError where there is none, or more than one."""
    if not path.exists():
        raise DataError(path, None, "no such file or folder; give a CSV of scores with the columns image,mos")
    if path.is_file():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".csv")
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(path, None, f"expected one CSV file in this folder, found: {names}; name the file itself")
    return found[0]


def read_ratings(
    file: pathlib.Path,
    split_column: str | None = None,
    scale_is_stated: bool = False,
    score_column: str | None = None,
    option: Spelling = in_python,
) -> tuple[str, list[Rating]]:
    """The name of the column of scores, and the lines of a CSV of scores, unscaled.

    Raises DataError at a missing, wrong or ambiguous column, and at a wrong number.
    """
    delimiter, lines = read_table(file)
    head_line, head, lines = _headed(file, lines)
    require_width(file, head, lines)
    lower = [cell.lower() for cell in head]

    def numeric(place):
        return 2 * sum(number(_cell(row, place), delimiter) is not None for _, row in lines) > len(lines)

    mos = label_columns.score_column(file, head_line, head, numeric, option, score_column)
    if label_columns.score_name(head[mos]) == "dmos" and not scale_is_stated:
        # Of the public sets named so, CSIQ's is better when lower, KADID-10k's when higher: never guess.
        raise DataError(
            file,
            head_line,
            f"the scores are named {head[mos]}: say which end is best, for example {option('mos_range', (1, 0))} where "
            f"0 is best, {option('mos_range', (1, 5))} where 5 is",
        )
    image, reference = label_columns.image_columns(file, head_line, head, numeric, mos)
    split = _split_place(file, head_line, head, split_column, option)
    known = {name: lower.index(name) for name in ("subset", "degradation") if name in lower}
    group = lower.index("group") if "group" in lower else reference
    _require_one_decimal_mark(file, lines, mos)

    def rating(line, row):
        row = row + [""] * (len(head) - len(row))
        if not row[image]:
            raise DataError(file, line, "names no picture")
        return Rating(
            image=os.path.normpath(row[image]).replace(os.sep, "/"),
            score=_score(file, line, row[mos], delimiter),
            split="train" if split is None else _split_word(file, line, row[split]),
            group=(row[group] if group is not None else "") or row[image],
            line=line,
            reference="" if reference is None else row[reference],
            **{name: row[place] for name, place in known.items()},
        )

    return head[mos], [rating(line, row) for line, row in lines]


def _headed(file, lines):
    """The header's line number and its columns, and the lines below it; a table of two columns needs no header."""
    if not lines or len(lines) == 1 and number(_cell(lines[0][1], 1), ";") is None:
        raise DataError(file, 1, "holds no score; expected a header image,mos and a line for each picture")
    line, head = lines[0]
    while head and not head[-1]:
        head = head[:-1]
    if all(number(cell, ";") is None for cell in head[1:]):
        return line, head, lines[1:]
    if len(head) == 2:
        return line, ["column 1", "column 2"], lines
    raise DataError(file, line, "the first line holds a score; put a header image,mos above it")


def _cell(row, place):
    return row[place] if place < len(row) else ""


def _require_one_decimal_mark(file, lines, place):
    commas = [line for line, row in lines if "," in _cell(row, place)]
    if commas and len(commas) < len(lines) and any("." in _cell(row, place) for _, row in lines):
        raise DataError(file, commas[0], "the score has a decimal comma, others have a point; write points alone")


def check_pictures(file: pathlib.Path, root: pathlib.Path, ratings: list[Rating], option: Spelling = in_python) -> None:
    """Raises DataError at a picture that is named twice or is not there."""
    seen: dict[str, int] = {}
    for rating in ratings:
        if rating.image in seen:
            raise DataError(
                file,
                rating.line,
                f"{rating.image} stands on line {seen[rating.image]} already; keep one score a picture",
            )
        seen[rating.image] = rating.line
        if not (root / rating.image).is_file():
            raise DataError(
                file, rating.line, f"no picture {root / rating.image}{_near_name(root / rating.image, option)}"
            )


def to_unit_range(
    file: pathlib.Path,
    ratings: list[Rating],
    mos_range: tuple[float, float] | None,
    option: Spelling = in_python,
) -> list[float]:
    """Scores brought to [0, 1], higher is better. Raises DataError at a score outside the scale."""
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


def _split_place(file, line, head, wanted, option):
    lower = [cell.lower() for cell in head]
    if wanted:
        if wanted.lower() not in lower:
            raise DataError(file, line, f"has no column {wanted}; its columns are {', '.join(head)}")
        return lower.index(wanted.lower())
    found = [place for place, cell in enumerate(lower) if "split" in cell]
    if len(found) > 1:
        names = ", ".join(head[place] for place in found)
        choose = option("split_column", head[found[0]])
        raise DataError(file, line, f"has several splits ({names}); choose one, for example {choose}")
    return found[0] if found else None


def _split_word(file, line, cell):
    if not cell:
        raise DataError(file, line, "names no split; write train, val or test")
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


def _near_name(path: pathlib.Path, option: Spelling) -> str:
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            if other.name.lower() == path.name.lower():
                return f" (there is {other.name}: upper and lower case differ)"
    return f"; correct the name, or say with {option('images', 'FOLDER')} where the pictures lie"
