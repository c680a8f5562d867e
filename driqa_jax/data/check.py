"""Check a data set as its authors distribute it: what is there, what is missing, what is broken."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from driqa_jax.data.datasets import layout_of
from driqa_jax.data.datasets._layout import Layout, Pictures, Rating
from driqa_jax.data.errors import DataError
from driqa_jax.progress import ProgressFn, silent


@dataclasses.dataclass
class Findings:
    """What `check` saw.

    splits: by split the numbers of ratings, of ratings the authors give, of pictures. scores: the lowest and the
    highest raw score, None where there is no rating. defects: all defects in words.
    """

    splits: dict[str, tuple[int, int, int]]
    scores: tuple[float, float] | None
    defects: list[str]


def check(name: str, data_dir: pathlib.Path, decode: bool = False, progress: ProgressFn = silent) -> Findings:
    """Look at the authors' files of a set; `decode` reads every picture too.

    `progress(what, done, total)` is called after each picture decoded. Raises DataError where nothing of the
    set is there at all.
    """
    layout = layout_of(name)
    root = layout.root(data_dir)
    layout.require_something(data_dir)
    ratings: list[Rating] = []
    defects: list[str] = []
    try:
        for rating in layout.ratings(root):
            ratings.append(rating)
    except DataError as error:
        defects.append(str(error))
    pictures = Pictures(layout, root)
    files = [pictures.find(rating) for rating in ratings]
    rated = Counter(rating.split for rating in ratings)
    there = Counter(rating.split for rating, file in zip(ratings, files, strict=True) if file)
    expected = layout.expected(set(rated))
    if not defects:
        defects += [
            f"{split}: {rated[split]} ratings, where the authors give {count}"
            for split, count in expected.items()
            if rated[split] != count
        ]
    defects += _absent(layout, root, ratings, files)
    if decode:
        defects += broken([file for file in files if file], lambda file: file, str, progress)
    raw = [rating.raw for rating in ratings]
    return Findings(
        {split: (rated[split], count, there[split]) for split, count in expected.items()},
        (min(raw), max(raw)) if raw else None,
        defects,
    )


def _absent(layout: Layout, root: pathlib.Path, ratings: list[Rating], files: list) -> list[str]:
    """A defect for each folder of pictures that is absent where none of several would do, then for each picture."""
    absent = [rating for rating, file in zip(ratings, files, strict=True) if file is None]
    if absent and not any((root / folder).is_dir() for folder in layout.images):
        return [f"{root / layout.images[0]}: no such folder; none of {len(absent)} pictures is here"]
    where = " or ".join(layout.images)
    return [
        f"{rating.file.name}{'' if rating.line is None else f', line {rating.line}'}: {rating.path!r} is not in {where}"
        for rating in absent
    ]


def broken(
    items: Sequence[Any], read: Callable[[Any], Any], name: Callable[[Any], str], progress: ProgressFn = silent
) -> Iterator[str]:
    """Why pictures cannot be decoded, a line for each such; `read(item)` gives what `decode` takes."""
    from driqa_jax.data.decode import decode
    from driqa_jax.data.errors import UnreadableImage, reason

    def look(item):
        try:
            decode(read(item), name=name(item))
        except Exception as error:
            return str(error) if isinstance(error, UnreadableImage) else f"{name(item)}: {reason(error, name(item))}"
        return None

    with ThreadPoolExecutor(2) as threads:
        for done, defect in enumerate(threads.map(look, items), start=1):
            progress("decoding", done, len(items))
            if defect:
                yield defect
