"""The tensorflow_datasets builder of every data set: rated images from the user's folder."""

import pathlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from driqa_jax.data import near_duplicates
from driqa_jax.data.datasets._layout import Layout, Rating, find_images
from driqa_jax.errors import DataError
from driqa_jax.progress import ProgressFn, counter, silent

TEXTS = ("image_id", "subset", "group", "reference", "degradation")
LABELS = ("mos", *TEXTS, "level", "row")  # also stored in the metadata, so that no image is read for them


class RatedImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with MOS; images of one scene share a `group`.

    Features: image (the authors' file); mos in [0, 1], higher is better; mos_raw and mos_std as the authors give them
    (nan: none); image_id; subset; group: the reference, else the first of the near duplicates; reference, degradation
    ("" if unknown); level (from 1, as the authors count; 0 if unknown); row: position in the authors' list, from 0.

    The metadata contain the labels of all images by split, and the sha256 of each label file. `progress` follows the
    preparation.
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
            disable_shuffling=True,  # records keep the order of the labels
            metadata=tfds.core.MetadataDict(),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    **dict.fromkeys(("mos", "mos_raw", "mos_std"), np.float32),
                    **{name: tfds.features.Text() for name in TEXTS},
                    **dict.fromkeys(("level", "row"), np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = self.LAYOUT.root(pathlib.Path(dl_manager.manual_dir))
        ratings = list(self.LAYOUT.ratings(root))
        require_counts(self.LAYOUT, ratings)
        files = find_images(self.LAYOUT, root, ratings)
        require_images(self.LAYOUT, ratings, files)
        groups = [rating.reference for rating in ratings]
        if not all(groups):
            names = [rating.image_id for rating in ratings]
            groups = scenes(names, files, counter(self.progress, "looking for siblings", len(files)))
        examples = []
        for row, (rating, group) in enumerate(zip(ratings, groups, strict=True)):
            scores = {"mos": self.LAYOUT.unit(rating.raw), "mos_raw": rating.raw, "mos_std": rating.std}
            texts = {key: getattr(rating, key) for key in TEXTS}
            examples.append({**scores, **texts, "group": group, "level": rating.level, "row": row})
        tell = counter(self.progress, "writing", len(examples))
        tables, generators = {}, {}
        for split in self.LAYOUT.expected({rating.split for rating in ratings}):
            rows = [row for row, rating in enumerate(ratings) if rating.split == split]
            tables[split] = {key: [examples[row][key] for row in rows] for key in LABELS}
            generators[split] = self._generate_examples([(files[row], examples[row]) for row in rows], tell)
        self.info.metadata["labels"] = tables
        self.info.metadata["label_files"] = self.LAYOUT.label_sha256(root)
        return generators

    def _generate_examples(
        self, images: list[tuple[pathlib.Path, dict]], tell: Callable[[], None]
    ) -> Iterator[tuple[int, dict]]:
        for number, (file, example) in enumerate(images):
            yield number, {"image": file.read_bytes(), **example}
            tell()


def builder_class(name: str, layout: Layout) -> type[RatedImages]:
    """The tfds builder class of the data set `name`, not registered with tfds."""
    body = {
        "__doc__": f"{layout.title}, from the user's folder.",
        "__module__": __name__,
        "name": name,
        "LAYOUT": layout,
        "VERSION": tfds.core.Version(list(layout.releases)[-1]),
        "RELEASE_NOTES": dict(layout.releases),
    }
    with tfds.core.registered.skip_registration():
        return type("Builder", (RatedImages,), body)


def require_counts(layout: Layout, ratings: list[Rating]) -> None:
    """Raises DataError if a split does not have the number of ratings that its authors give."""
    counts = Counter(rating.split for rating in ratings)
    for split, count in layout.expected(set(counts)).items():
        if counts[split] != count:
            file = next((r.file for r in ratings if r.split == split), ratings[-1].file)
            last = max((r.line or 0 for r in ratings if r.file == file), default=0) or None
            message = f"ends with {counts[split]} ratings of {split}, where {layout.title} has {count}: is it complete?"
            raise DataError(file, last, message)


def require_images(layout: Layout, ratings: list[Rating], files: list[pathlib.Path | None]) -> None:
    """Raises DataError with the label line of the first missing image, if any is missing."""
    absent = [rating for rating, file in zip(ratings, files, strict=True) if file is None]
    if absent:
        others = f", nor {len(absent) - 1} others" if len(absent) > 1 else ""
        where = " or ".join(layout.images)
        raise DataError(absent[0].file, absent[0].line, f"{absent[0].path!r} is not in {where}{others}")


def scenes(names: list[str], files: list[pathlib.Path], tell: Callable[[], None]) -> list[str]:
    """The cluster of each image, named by its first member so that it does not depend on the order of a folder."""
    rows = near_duplicates.describe_all(files, pathlib.Path.read_bytes, lambda file: (file, "this picture"), tell)
    return [names[row] for row in near_duplicates.clusters(rows)]
