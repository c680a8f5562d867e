"""BIQ2021 for tensorflow_datasets, from a folder that the user has: nothing is downloaded."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow_datasets as tfds

from driqa_jax.data import neighbours
from driqa_jax.data.builders.biq2021.layout import IMAGES, SPLITS, Rating, read_ratings
from driqa_jax.data.errors import DataError

_CITATION = """@article{ahmed2022biq2021,
  title={BIQ2021: a large-scale blind image quality assessment database},
  author={Ahmed, Nisar and Asif, Shahzad},
  journal={Journal of Electronic Imaging}, volume={31}, number={5}, pages={053010}, year={2022}}"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pictures with MOS; pictures that show one scene share a `group`.

    The labels of all pictures stand in the metadata too, so that no picture is read for them.
    `progress(what, done, total)` is told how far it has come; set it to see that.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "First.",
        "1.1.0": "Groups find exposures and blurs of one scene, and no longer chain horizons.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder with `Images` and the two CSV files, from github.com/nisarahmedrana/BIQ2021"
    )
    progress = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="BIQ2021: 12,000 authentically distorted pictures with MOS, split 10,000 / 2,000.",
            citation=_CITATION,
            homepage="https://github.com/nisarahmedrana/BIQ2021",
            disable_shuffling=True,  # records lie in the order of the labels
            metadata=tfds.core.MetadataDict(),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "mos": np.float32,
                    "mos_raw": np.float32,
                    "image_id": tfds.features.Text(),
                    "subset": tfds.features.Text(),
                    "group": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = pathlib.Path(dl_manager.manual_dir)
        ratings = read_ratings(folder)
        _require_pictures(folder, ratings)
        everything = [rating for part in ratings.values() for rating in part]
        groups = iter(_groups(everything, self._told("looking for siblings", len(everything))))
        tell = self._told("writing", len(everything))
        labels, generators = {}, {}
        for split, part in ratings.items():
            own = [next(groups) for _ in part]
            labels[split] = {
                "mos": [rating.mos for rating in part],
                "image_id": [rating.name for rating in part],
                "subset": [rating.subset for rating in part],
                "group": own,
            }
            generators[split] = self._generate_examples(part, own, tell)
        self.info.metadata["labels"] = labels
        return generators

    def _generate_examples(self, ratings: list[Rating], groups: list[str], tell: Callable[[], None]):
        for number, (rating, group) in enumerate(zip(ratings, groups, strict=True)):
            yield (
                number,
                {
                    "image": rating.file.read_bytes(),
                    "mos": rating.mos,
                    "mos_raw": rating.mos,
                    "image_id": rating.name,
                    "subset": rating.subset,
                    "group": group,
                },
            )
            tell()

    def _told(self, what: str, total: int) -> Callable[[], None]:
        """To be called after each of `total` items."""
        done = itertools.count(1)
        return lambda: self.progress(what, next(done), total) if self.progress else None


def _require_pictures(folder: pathlib.Path, ratings: dict[str, list[Rating]]) -> None:
    absent = [(split, rating) for split, part in ratings.items() for rating in part if rating.file is None]
    if absent:
        split, first = absent[0]
        others = f", nor {len(absent) - 1} others" if len(absent) > 1 else ""
        raise DataError(folder / SPLITS[split], first.line, f"{first.name!r} is not in {IMAGES}{others}")


def _groups(ratings: list[Rating], tell: Callable[[], None]) -> list[str]:
    """The name of each picture's cluster: its first member, so it does not hang on the order of a folder."""

    def look(rating):
        try:
            return neighbours.describe(rating.file.read_bytes())
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            raise DataError(rating.file, None, f"this picture cannot be read ({error})") from error

    rows = []
    with ThreadPoolExecutor() as threads:
        for row in threads.map(look, ratings):
            rows.append(row)
            tell()
    return [ratings[row].name for row in neighbours.clusters(rows)]
