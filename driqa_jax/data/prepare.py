"""Prepare a data set: the authors' files to ArrayRecord, through tensorflow_datasets, without TensorFlow."""

from __future__ import annotations

import contextlib
import os
import pathlib

from driqa_jax.data.datasets import layout_of
from driqa_jax.data.errors import DataError
from driqa_jax.progress import ProgressFn, silent


def prepare(
    name: str, data_dir: str | os.PathLike, out: str | os.PathLike, progress: ProgressFn = silent
) -> pathlib.Path:
    """Write the set under `out` and return its folder; what is there already is kept.

    tfds writes to a folder marked incomplete and renames it at the end, so half a set is never read.
    `progress(what, done, total)` is called after each picture.

    Raises:
      ValueError: no such set.
      DataError: what is wrong with the authors' files, or `out` cannot be written.
    """
    import tensorflow_datasets as tfds

    from driqa_jax.data.datasets._tfds_builder import builder_class

    layout = layout_of(name)
    if not pathlib.Path(data_dir).is_dir():
        raise DataError(data_dir, None, f"no such folder; give the one that holds {name} as its authors made it")
    tfds.disable_progress_bar()
    settings = tfds.download.DownloadConfig(manual_dir=str(pathlib.Path(data_dir).resolve()))
    try:
        # tfds announces a download on standard output; nothing is downloaded.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            builder = builder_class(name, layout)(data_dir=str(out), file_format="array_record")
            builder.progress = progress
            builder.download_and_prepare(download_config=settings)
    except OSError as error:
        raise DataError(error.filename or out, None, f"{error.strerror or error}; nothing was prepared") from error
    return pathlib.Path(str(builder.data_dir))
