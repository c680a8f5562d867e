"""A folder of photographs without scores, for stages that need none."""

from __future__ import annotations

import os
import pathlib

from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source


class PhotosSource(Source):
    """Every picture below a folder, in the order of its relative paths; `mos` is nan, all are "train".

    Raises DataError where the folder is missing or holds no picture (by extension).
    """

    def __init__(self, path: str | os.PathLike, name: str | None = None):
        root = pathlib.Path(path)
        if not root.is_dir():
            raise DataError(root, None, "no such folder; give the folder that holds the photographs")
        found = (file for file in root.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        ids = sorted(file.relative_to(root).as_posix() for file in found)
        if not ids:
            raise DataError(root, None, "no picture in this folder or below it")
        self._root = root
        name = name or root.resolve().name
        count = len(ids)
        super().__init__(
            name,
            [float("nan")] * count,
            image_id=ids,
            group=ids,
            subset=[""] * count,
            split=["train"] * count,
            dataset=[name] * count,
        )

    def encoded(self, i: int) -> bytes:
        return (self._root / self.column("image_id")[i]).read_bytes()
