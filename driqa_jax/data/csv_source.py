"""One's own pictures with a CSV of scores, or an IQA-PyTorch meta_info file read as it is."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import pathlib

from driqa_jax.data.csv_lines import read_lines
from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source

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

    `path`: the CSV, or a folder that holds exactly one. Its columns are `image,mos`, and if you like `split`,
    `group`, `reference`, `subset`, `degradation`; or by place those of an IQA-PyTorch meta_info file: `name,mos` or
    `reference,distorted,mos`, with any column whose name contains "split". A reference is a group, too. `images`:
    the folder that image names start from (default: where the CSV lies). `mos_range`: the (worst, best) score of
    the scale, as in (1, 5), or (100, 0) where lower is better; it may be left out where all scores lie in [0, 1]
    and their column is not named dmos. `split_column` chooses among several. Without a split column every picture
    is "train".

    Raises DataError naming the file and the line.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        images: str | os.PathLike | None = None,
        mos_range: tuple[float, float] | None = None,
        split_column: str | None = None,
        name: str | None = None,
    ):
        file = find_csv(pathlib.Path(path))
        root = file.parent if images is None else pathlib.Path(images)
        ratings = read_ratings(file, split_column, scale_is_stated=mos_range is not None)
        check_pictures(file, root, ratings)
        self._root = root
        name = name or file.stem
        super().__init__(
            name,
            to_unit_range(file, ratings, mos_range),
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


def read_ratings(file: pathlib.Path, split_column: str | None = None, scale_is_stated: bool = False) -> list[Rating]:
    """The lines of a CSV of scores, unscaled. Raises DataError at a missing or wrong column or number."""
    lines = read_lines(file)
    if len(lines) < 2:
        raise DataError(file, 1, "holds no score; expected a header image,mos and a line for each picture")
    head = [cell.lower() for cell in lines[0][1]]
    if any(_is_number(cell) for cell in head[1:]):
        raise DataError(file, lines[0][0], "the first line holds a score; put a header image,mos above it")
    image, mos, reference = _columns(file, head, lines[1])
    if head[mos] == "dmos" and not scale_is_stated:
        # Of the public sets named so, CSIQ's is better when lower, KADID-10k's when higher: never guess.
        raise DataError(
            file,
            lines[0][0],
            "the scores are named dmos: say which end is best with mos_range=(worst, best), "
            "for example mos_range=(1, 0) where lower is better",
        )
    split = _split_place(file, head, split_column)
    if reference is None and "reference" in head:
        reference = head.index("reference")
    known = {name: head.index(name) for name in ("subset", "degradation") if name in head}
    group = head.index("group") if "group" in head else reference

    def rating(line, row):
        row = row + [""] * (len(head) - len(row))
        if not row[image]:
            raise DataError(file, line, "names no picture")
        return Rating(
            image=os.path.normpath(row[image]).replace(os.sep, "/"),
            score=_score(file, line, row[mos]),
            split="train" if split is None else _split_word(file, line, row[split]),
            group=(row[group] if group is not None else "") or row[image],
            line=line,
            reference="" if reference is None else row[reference],
            **{name: row[place] for name, place in known.items()},
        )

    return [rating(line, row) for line, row in lines[1:]]


def check_pictures(file: pathlib.Path, root: pathlib.Path, ratings: list[Rating]) -> None:
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
            raise DataError(file, rating.line, f"no picture {root / rating.image}{_near_name(root / rating.image)}")


def to_unit_range(file: pathlib.Path, ratings: list[Rating], mos_range: tuple[float, float] | None) -> list[float]:
    """Scores brought to [0, 1], higher is better. Raises DataError at a score outside the scale."""
    if mos_range is None:
        for rating in ratings:
            if not 0 <= rating.score <= 1:
                raise DataError(
                    file,
                    rating.line,
                    f"mos {rating.score:g} lies outside [0, 1]; state the scale as mos_range=(worst, best), "
                    f"for example mos_range=(1, 5), or (100, 0) where lower is better",
                )
        return [rating.score for rating in ratings]
    worst, best = (float(end) for end in mos_range)
    if worst == best or not math.isfinite(worst - best):
        raise ValueError(f"mos_range must be two different numbers (worst, best), got {mos_range}")
    for rating in ratings:
        if not min(worst, best) <= rating.score <= max(worst, best):
            raise DataError(
                file,
                rating.line,
                f"mos {rating.score:g} lies outside mos_range ({worst:g}, {best:g}); correct one of them",
            )
    return [(rating.score - worst) / (best - worst) for rating in ratings]


def _columns(file, head, first):
    """Places of the picture, the score and (or None) the reference."""
    if "image" in head or "mos" in head and "image_name" in head:
        image = head.index("image") if "image" in head else head.index("image_name")
        if "mos" not in head:
            raise DataError(file, 1, f"has no column mos; its columns are {', '.join(head)}")
        return image, head.index("mos"), None
    line, row = first
    for mos in (1, 2):
        if len(row) > mos and _is_number(row[mos]):
            return mos - 1, mos, 0 if mos == 2 else None
    raise DataError(
        file,
        line,
        "is neither image,mos (named in a header) nor a meta_info line name,mos or reference,distorted,mos",
    )


def _split_place(file, head, wanted):
    if wanted is not None:
        if wanted.lower() not in head:
            raise DataError(file, 1, f"has no column {wanted}; its columns are {', '.join(head)}")
        return head.index(wanted.lower())
    found = [place for place, cell in enumerate(head) if "split" in cell]
    if len(found) > 1:
        names = ", ".join(head[place] for place in found)
        raise DataError(file, 1, f"has several splits ({names}); choose one with split_column=")
    return found[0] if found else None


def _split_word(file, line, cell):
    if not cell:
        raise DataError(file, line, "names no split; write train, val or test")
    word = cell.lower()
    return _SPLIT_WORDS.get(word, word)


def _score(file, line, cell):
    if not _is_number(cell):
        raise DataError(file, line, f"the score {cell!r} is not a number")
    if not math.isfinite(float(cell)):
        raise DataError(file, line, f"the score is {cell}; remove the line or give a number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _near_name(path: pathlib.Path) -> str:
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            if other.name.lower() == path.name.lower():
                return f" (there is {other.name}: upper and lower case differ)"
    return "; correct the name, or say with images= where the pictures lie"
