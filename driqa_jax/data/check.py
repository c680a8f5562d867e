"""Check a data set as its authors distribute it: what is there, what is missing, what is broken."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from driqa_jax.data.errors import DataError

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass
class Findings:
    """By split the numbers of ratings, of ratings the authors give, of pictures; all defects in words."""

    splits: dict[str, tuple[int, int, int]]
    defects: list[str]


def check(
    name: str, data_dir: pathlib.Path, decode: bool = False, progress: Progress | None = None
) -> Findings:
    """Look at the authors' files of a set; `decode` reads every picture too.

    `progress(what, done, total)` is called after each picture decoded. Raises DataError where nothing of the
    set is there at all.
    """
    layout = importlib.import_module(f"driqa_jax.data.builders.{name}.layout")
    parts = [layout.IMAGES, *layout.SPLITS.values()]
    if not any((data_dir / part).exists() for part in parts):
        raise DataError(data_dir, None, f"nothing of {name} is here; expected {', '.join(map(repr, parts))}")
    found, seen, rated = Findings({}, []), {}, []
    pictures = _noted(found, layout.Pictures, data_dir)
    for split, count in layout.COUNTS.items():
        ratings = _noted(found, layout.read_split, data_dir, split, pictures, seen) or []
        present = [rating for rating in ratings if rating.file is not None]
        found.splits[split] = len(ratings), count, len(present)
        if ratings and len(ratings) != count:
            found.defects.append(
                f"{layout.SPLITS[split]}: {len(ratings)} ratings, where the authors give {count}"
            )
        if pictures is not None:
            found.defects += [
                f"{layout.SPLITS[split]}, line {rating.line}: {rating.name!r} is not in {layout.IMAGES}"
                for rating in ratings
                if rating.file is None
            ]
        rated += present
    if decode:
        found.defects += _broken([rating.file for rating in rated], progress)
    return found


def _noted(found: Findings, action, *args):
    """The action's result, or None and its defect noted."""
    try:
        return action(*args)
    except DataError as error:
        found.defects.append(str(error))
        return None


def _broken(files: list[pathlib.Path], progress: Progress | None) -> Iterator[str]:
    from driqa_jax.data.decode import decode
    from driqa_jax.data.errors import UnreadableImage

    def look(file):
        try:
            decode(file)
        except UnreadableImage as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as threads:
        for done, defect in enumerate(threads.map(look, files), start=1):
            if progress:
                progress("decoding", done, len(files))
            if defect:
                yield defect
