"""Open a source by its kind, from a configuration, a command or Python; folders of images and prepared sets."""

import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.data.label_tables import Spelling, in_python
from driqa_jax.data.source import Source
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.errors import DataError

LABEL_OPTIONS = ("images", "score_column", "split_column")  # options of a folder in a configuration's `data`
OPENED_BY = ("kind", "name", "path", "fake_count", "mos_range", *LABEL_OPTIONS)  # keys that `open_configured` reads


class ImageFolderSource(Source):
    """All images below a folder, sorted by relative path; `mos` is nan, `split` is "train".

    Raises DataError if the folder is missing or contains no image (by extension).
    """

    def __init__(self, path: str | os.PathLike, name: str | None = None):
        root = pathlib.Path(path)
        if not root.is_dir():
            raise DataError(root, None, "no such folder; give the folder that holds the photographs")
        files = (file for file in root.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        ids = sorted(file.relative_to(root).as_posix() for file in files)
        if not ids:
            raise DataError(root, None, "no picture in this folder or below it")
        self._root = root
        super().__init__(name or root.resolve().name, [float("nan")] * len(ids), image_id=ids, group=ids)

    def encoded(self, i: int) -> bytes:
        return (self._root / self.column("image_id")[i]).read_bytes()


class RecordsSource(Source):
    """All splits of the set `name` that `driqa data prepare` wrote to the folder `data_dir`, one after another.

    The ArrayRecord files are read through tfds, without TensorFlow. Labels come from the set's metadata, so no image is
    read for them. Raises DataError if the set is not prepared there.
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


def open_source(kind: str, path: str | None = None, name: str | None = None, **options: Any) -> Source:
    """The source of one kind.

    `tfds`: `path` is the folder that `driqa data prepare NAME` wrote, `name` the set ("biq2021"). `folder`: `path` is
    a CSV file or its folder (options: those of `FolderSource`). `photos`: `path` is a folder of images without scores.
    `fake`: generated images (options: `count`, `size`, `seed`), always named "fake".

    Raises ValueError for an unknown kind or a missing path or name, DataError for defective data.
    """
    if kind == "fake":
        return FakeSource(**options)
    if kind not in ("tfds", "folder", "photos"):
        raise ValueError(f"unknown kind of source {kind!r}; the kinds are tfds, folder, photos, fake")
    if not path:
        raise ValueError(f"a source of kind {kind!r} needs a path")
    if kind == "tfds":
        if not name:
            raise ValueError("a source of kind 'tfds' needs a name, for example biq2021")
        return RecordsSource(name, path, **options)
    return (FolderSource if kind == "folder" else ImageFolderSource)(path, name=name, **options)


def open_configured(data: ml_collections.ConfigDict, option: Spelling = in_python) -> Source:
    """The source that a configuration's `data` describes: kind, path, name, mos_range, fake_count, LABEL_OPTIONS.

    `option` spells option names in error messages. Raises as `open_source` does.
    """
    options = {}
    if data.kind == "fake":
        options["count"] = data.fake_count
    if data.kind == "folder":
        options = {name: data.get(name) or None for name in LABEL_OPTIONS} | {"option": option}
        options["mos_range"] = tuple(data.mos_range) or None
    return open_source(data.kind, data.path or None, data.name or None, **options)
