"""Prepare a data set: the authors' files to ArrayRecord, through tensorflow_datasets, without TensorFlow."""

from __future__ import annotations

import importlib
import pathlib

NAMES = ("biq2021",)


def prepare(name: str, data_dir: str | pathlib.Path, out: str | pathlib.Path) -> pathlib.Path:
    """Write the set under `out` and return its folder; what is there already is kept.

    tfds writes to a folder marked incomplete and renames it at the end, so half a set is never read.

    Raises:
      ValueError: no such set.
      DataError: what is wrong with the authors' files.
    """
    import tensorflow_datasets as tfds

    if name not in NAMES:
        raise ValueError(f"no data set {name!r}; there are {', '.join(NAMES)}")
    module = importlib.import_module(f"driqa_jax.data.builders.{name}.{name}_dataset_builder")
    builder = module.Builder(data_dir=str(out), file_format="array_record")
    settings = tfds.download.DownloadConfig(manual_dir=str(pathlib.Path(data_dir).resolve()))
    builder.download_and_prepare(download_config=settings)
    return pathlib.Path(str(builder.data_dir))
