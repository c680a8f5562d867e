"""What all builders for tensorflow_datasets have in common: rated pictures from a folder that the user has."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow_datasets as tfds

from driqa_jax.data import near_duplicates
from driqa_jax.data.datasets._layout import Layout, Pictures, Rating
from driqa_jax.data.errors import DataError
from driqa_jax.progress import ProgressFn, counter, silent

# Features that are kept in the metadata too, so that no picture is read for them.
LABELS = ("mos", "image_id", "subset", "group", "reference", "degradation", "level", "row")


class RatedImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures with MOS; those that show one scene share a `group`.

    Features: image (the authors' file); mos in [0, 1], higher is better; mos_raw and mos_std as the authors print
    them (mos_std nan where they give none); image_id; subset; group: the reference, or where there is none the
    first of the near neighbours; reference, degradation ("" where there is none or it is not known); level (as the
    authors count, from 1; 0: not known); row: the place in the authors' list, from 0.

    The metadata hold the labels of all pictures by split, and the sha256 of each label file.
    Set `progress` to a `driqa_jax.progress.ProgressFn` to see how far it is.
    """

    LAYOUT: Layout
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The data set's folder as its authors distribute it."
    progress: ProgressFn = staticmethod(silent)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.LAYOUT.title}: {sum(self.LAYOUT.counts.values()):,} pictures; {self.LAYOUT.scores}.",
            citation=self.LAYOUT.citation,
            homepage=self.LAYOUT.homepage,
            disable_shuffling=True,  # records lie in the order of the labels
            metadata=tfds.core.MetadataDict(),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "mos": np.float32,
                    "mos_raw": np.float32,
                    "mos_std": np.float32,
                    "image_id": tfds.features.Text(),
                    "subset": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "reference": tfds.features.Text(),
                    "degradation": tfds.features.Text(),
                    "level": np.int32,
                    "row": np.int32,
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = pathlib.Path(dl_manager.manual_dir)
        self.LAYOUT.require_something(folder)
        root = self.LAYOUT.root(folder)
        ratings = list(self.LAYOUT.ratings(root))
        require_counts(self.LAYOUT, ratings)
        pictures = Pictures(self.LAYOUT, root)
        files = [pictures.find(rating) for rating in ratings]
        require_pictures(self.LAYOUT, ratings, files)
        groups = [rating.reference for rating in ratings]
        if not all(groups):
            names = [rating.image_id for rating in ratings]
            groups = scenes(names, files, counter(self.progress, "looking for siblings", len(files)))
        examples = [
            {
                "mos": self.LAYOUT.unit(rating.raw),
                "mos_raw": rating.raw,
                "mos_std": rating.std,
                "image_id": rating.image_id,
                "subset": rating.subset,
                "group": group,
                "reference": rating.reference,
                "degradation": rating.degradation,
                "level": rating.level,
                "row": row,
            }
            for row, (rating, group) in enumerate(zip(ratings, groups, strict=True))
        ]
        tell = counter(self.progress, "writing", len(examples))
        tables, generators = {}, {}
        for split in self.LAYOUT.expected({rating.split for rating in ratings}):
            rows = [row for row, rating in enumerate(ratings) if rating.split == split]
            tables[split] = {key: [examples[row][key] for row in rows] for key in LABELS}
            generators[split] = self._generate_examples([(files[row], examples[row]) for row in rows], tell)
        self.info.metadata["labels"] = tables
        self.info.metadata["label_files"] = self.LAYOUT.label_sha256(root)
        return generators

    def _generate_examples(self, pictures: list[tuple[pathlib.Path, dict]], tell: Callable[[], None]):
        for number, (file, example) in enumerate(pictures):
            yield number, {"image": file.read_bytes(), **example}
            tell()


def builder_class(name: str, layout: Layout) -> type[RatedImages]:
    """The tfds builder of the data set `name`. Its class stays out of the registry of tfds."""
    body = {
        "__doc__": f"{layout.title}, from a folder that the user has.",
        "__module__": __name__,
        "name": name,
        "LAYOUT": layout,
        "VERSION": tfds.core.Version(list(layout.releases)[-1]),
        "RELEASE_NOTES": dict(layout.releases),
    }
    with tfds.core.registered.skip_registration():
        return type("Builder", (RatedImages,), body)


def require_counts(layout: Layout, ratings: list[Rating]) -> None:
    """Raises DataError where a split has another number of ratings than its authors give."""
    found = Counter(rating.split for rating in ratings)
    for split, count in layout.expected(set(found)).items():
        if found[split] != count:
            file = next((r.file for r in ratings if r.split == split), ratings[-1].file)
            last = max((r.line or 0 for r in ratings if r.file == file), default=0) or None
            raise DataError(
                file,
                last,
                f"ends with {found[split]} ratings of {split}, where {layout.title} has {count}: is it whole?",
            )


def require_pictures(layout: Layout, ratings: list[Rating], files: list[pathlib.Path | None]) -> None:
    """Raises DataError, naming the line of the first, where pictures are absent."""
    absent = [rating for rating, file in zip(ratings, files, strict=True) if file is None]
    if absent:
        others = f", nor {len(absent) - 1} others" if len(absent) > 1 else ""
        where = " or ".join(layout.images)
        raise DataError(absent[0].file, absent[0].line, f"{absent[0].path!r} is not in {where}{others}")


def scenes(names: list[str], files: list[pathlib.Path], tell: Callable[[], None]) -> list[str]:
    """The name of each picture's cluster: its first member, so it does not hang on the order of a folder."""

    def look(file):
        try:
            return near_duplicates.describe(file.read_bytes())
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            raise DataError(file, None, f"this picture cannot be read ({error})") from error

    rows = []
    with ThreadPoolExecutor() as threads:
        for row in threads.map(look, files):
            rows.append(row)
            tell()
    return [names[row] for row in near_duplicates.clusters(rows)]
