"""Check and prepare data sets as their authors distribute them.

Preparation writes ArrayRecord files through tensorflow_datasets, without TensorFlow.
"""

import contextlib
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from driqa_jax.data.datasets import layout_of
from driqa_jax.data.datasets._layout import Layout, Rating, find_images
from driqa_jax.data.decode import decode as decode_image
from driqa_jax.errors import DataError, UnreadableImage, reason
from driqa_jax.progress import ProgressFn, silent


def prepare(
    name: str, data_dir: str | os.PathLike, out: str | os.PathLike, progress: ProgressFn = silent
) -> pathlib.Path:
    """Write the set under `out` and return its folder; an existing prepared set is kept.

    tfds writes to a folder marked incomplete and renames it at the end, so no reader sees half a set.
    `progress(what, done, total)` is called after each image.

    Raises ValueError for an unknown set, DataError for defective files or if `out` cannot be written.
    """
    import tensorflow_datasets as tfds

    from driqa_jax.data.datasets._tfds_builder import builder_class

    layout = layout_of(name)
    if not pathlib.Path(data_dir).is_dir():
        raise DataError(data_dir, None, f"no such folder; give the one that holds {name} as its authors made it")
    tfds.disable_progress_bar()
    settings = tfds.download.DownloadConfig(manual_dir=str(pathlib.Path(data_dir).resolve()))
    try:
        # tfds prints that it downloads, although nothing is downloaded.
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            builder = builder_class(name, layout)(data_dir=str(out), file_format="array_record")
            builder.progress = progress
            builder.download_and_prepare(download_config=settings)
    except OSError as error:
        raise DataError(error.filename or out, None, f"{error.strerror or error}; nothing was prepared") from error
    return pathlib.Path(str(builder.data_dir))


class Findings(NamedTuple):
    """The result of `check`.

    splits: by split the numbers of ratings, of expected ratings, and of image files. scores: the lowest and highest
    raw score, None without ratings. defects: all defects in words.
    """

    splits: dict[str, tuple[int, int, int]]
    scores: tuple[float, float] | None
    defects: list[str]


def check(name: str, data_dir: pathlib.Path, decode: bool = False, progress: ProgressFn = silent) -> Findings:
    """Check the authors' files of a set against its layout; `decode` also decodes every image.

    `progress(what, done, total)` is called after each decoded image. Raises DataError if no file of the set exists.
    """
    layout = layout_of(name)
    root = layout.root(data_dir)
    ratings: list[Rating] = []
    defects: list[str] = []
    try:
        for rating in layout.ratings(root):
            ratings.append(rating)
    except DataError as error:
        defects.append(str(error))
    files = find_images(layout, root, ratings)
    rated = Counter(rating.split for rating in ratings)
    present = Counter(rating.split for rating, file in zip(ratings, files, strict=True) if file)
    expected = layout.expected(set(rated))
    if not defects:
        wrong = {split: count for split, count in expected.items() if rated[split] != count}
        defects += [f"{split}: {rated[split]} ratings, expected {count}" for split, count in wrong.items()]
    defects += _absent(layout, root, ratings, files)
    if decode:
        defects += broken([file for file in files if file], lambda file: file, str, progress)
    raw = [rating.raw for rating in ratings]
    splits = {split: (rated[split], count, present[split]) for split, count in expected.items()}
    return Findings(splits, (min(raw), max(raw)) if raw else None, defects)


def _absent(layout: Layout, root: pathlib.Path, ratings: list[Rating], files: list) -> list[str]:
    """A defect for each missing image, or a single one if no image folder exists."""
    absent = [rating for rating, file in zip(ratings, files, strict=True) if file is None]
    if absent and not any((root / folder).is_dir() for folder in layout.images):
        return [f"{root / layout.images[0]}: no such folder; all {len(absent)} images are missing"]
    return [f"{rating.source}: {rating.path!r} is not in {' or '.join(layout.images)}" for rating in absent]


def broken(
    items: Sequence[Any], read: Callable[[Any], Any], name: Callable[[Any], str], progress: ProgressFn = silent
) -> Iterator[str]:
    """One line for each image that cannot be decoded; `read(item)` returns what `decode` accepts."""

    def defect_of(item: Any) -> str | None:
        try:
            decode_image(read(item), name=name(item))
        except Exception as error:
            return str(error) if isinstance(error, UnreadableImage) else f"{name(item)}: {reason(error, name(item))}"
        return None

    with ThreadPoolExecutor(2) as threads:
        for done, defect in enumerate(threads.map(defect_of, items), start=1):
            progress("decoding", done, len(items))
            if defect:
                yield defect
