"""Data sets written by `driqa data prepare`: ArrayRecord files read through tfds, without TensorFlow."""

import os
import pathlib

import numpy as np

from driqa_jax.data.source import Source
from driqa_jax.errors import DataError


class RecordsSource(Source):
    """All splits of the prepared set `name` in the folder `data_dir`, one after another.

    Labels come from the set's metadata, so no image is read for them. Raises DataError if the set is not prepared
    there.
    """

    def __init__(self, name: str, data_dir: str | os.PathLike):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(_version_folder(name, pathlib.Path(data_dir))))
        tables = builder.info.metadata["labels"]
        skip = {"image": tfds.decode.SkipDecoding()}
        self._parts = [builder.as_data_source(split, decoders=skip) for split in tables]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        if [len(part) for part in self._parts] != [len(table["mos"]) for table in tables.values()]:
            raise DataError(data_dir, None, f"{name} has different numbers of labels and records; prepare it again")

        keys = next(iter(tables.values()))  # sets that older versions prepared lack some columns
        columns = {key: [value for table in tables.values() for value in table[key]] for key in keys}
        splits = [split for split, table in tables.items() for _ in table["mos"]]
        super().__init__(name, split=splits, **columns)
        self.label_files = builder.info.metadata.get("label_files", {})

    def encoded(self, i: int) -> bytes:
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._parts[which][i - int(self._starts[which])]["image"]


def _version_folder(name: str, data_dir: pathlib.Path) -> pathlib.Path:
    infos = (data_dir / name).glob("*/dataset_info.json")
    folders = [file.parent for file in infos if "incomplete" not in file.parent.name]
    if not folders:
        command = f"driqa data prepare {name} --data-dir AUTHORS --out {data_dir}"
        raise DataError(data_dir / name, None, f"no prepared set here; run: {command}")
    return max(folders, key=lambda folder: tuple(int(part) for part in folder.name.split(".")))
