"""BIQ2021 for tensorflow_datasets, from a folder that the user has: nothing is downloaded."""

from __future__ import annotations

import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow_datasets as tfds

from driqa_jax.data import neighbours
from driqa_jax.data.builders.biq2021.layout import Rating, read_ratings
from driqa_jax.data.errors import DataError

_CITATION = """@article{ahmed2022biq2021,
  title={BIQ2021: a large-scale blind image quality assessment database},
  author={Ahmed, Nisar and Asif, Shahzad},
  journal={Journal of Electronic Imaging}, volume={31}, number={5}, pages={053010}, year={2022}}"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pictures with MOS; pictures that repeat one another share a `group`.

    The labels of all pictures stand in the metadata too, so that no picture is read for them.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder with `Images` and the two CSV files, from github.com/nisarahmedrana/BIQ2021"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="BIQ2021: 12,000 authentically distorted pictures with MOS, official split 10,000 / 2,000.",
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
        everything = [rating for part in ratings.values() for rating in part]
        absent = [rating.name for rating in everything if rating.file is None]
        if absent:
            raise DataError(folder / "Images", None, f"{len(absent)} pictures are missing, {absent[0]!r} first")
        groups = iter(_groups(everything))
        labels, generators = {}, {}
        for split, part in ratings.items():
            own = [next(groups) for _ in part]
            labels[split] = {
                "mos": [rating.mos for rating in part],
                "image_id": [rating.name for rating in part],
                "subset": [rating.subset for rating in part],
                "group": own,
            }
            generators[split] = self._generate_examples(part, own)
        self.info.metadata["labels"] = labels
        return generators

    def _generate_examples(self, ratings: list[Rating], groups: list[str]):
        for number, (rating, group) in enumerate(zip(ratings, groups, strict=True)):
            yield number, {
                "image": rating.file.read_bytes(),
                "mos": rating.mos,
                "mos_raw": rating.mos,
                "image_id": rating.name,
                "subset": rating.subset,
                "group": group,
            }


def _groups(ratings: list[Rating]) -> list[str]:
    """The name of each picture's cluster: that of its first member, so it does not hang on the order of a folder."""

    def look(rating):
        try:
            return neighbours.describe(rating.file.read_bytes())
        except OSError as error:
            raise DataError(rating.file, None, f"this picture cannot be read ({error})") from error

    with ThreadPoolExecutor() as threads:
        rows = neighbours.clusters(threads.map(look, ratings))
    return [ratings[row].name for row in rows]
