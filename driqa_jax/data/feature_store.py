"""Image features cached on disk, shared by all trainings with the same settings.

A store is a folder of chunks. A chunk is a folder with one .npy file per array and `ids.txt`, one line per image. It is
written under a hidden name and renamed when complete, so an interrupted computation resumes at the first image without
a chunk, and concurrent writers are safe.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.io import part_name, write_errors, write_json


class FeatureStore:
    """The chunks under `folder/NAME-HASH`, where the hash is that of `key`.

    `key`: plain values that determine the features, stored as key.json beside the chunks.
    """

    def __init__(self, folder: str | os.PathLike, name: str, key: Mapping[str, Any]):
        text = json.dumps(key, sort_keys=True)
        self.path = pathlib.Path(folder) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        with write_errors(f"config.cache.folder={folder}", done="made"):
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "key.json", key, sort_keys=True)
        # By image: the digest of its bytes, the arrays of its chunk, and its row in them.
        self._stored: dict[str, tuple[str, dict[str, np.ndarray], int]] = {}
        for chunk in sorted(self.path.iterdir()):
            if chunk.is_dir() and not chunk.name.startswith("."):
                self._open(chunk)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, image: str) -> bool:
        return image in self._stored

    def add(self, images: Sequence[str], encoded: Sequence[bytes], arrays: Mapping[str, np.ndarray]) -> None:
        """Store `arrays`, each (len(images), ...), of images with these ids and encoded bytes, as a chunk.

        Raises UserError for a non-finite value (usually too large for the dtype), or if writing fails.
        """
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise UserError(f"{self.path}: {name} is not finite as {array.dtype}; set config.cache.dtype=float32")
        # An id may hold a line end, but no file name holds a zero.
        ids = [image.replace("\n", "\0") for image in images]
        lines = [f"{_digest(data)} {image}\n" for image, data in zip(ids, encoded, strict=True)]
        chunk = self.path / hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
        part = part_name(chunk)
        try:
            with write_errors(chunk):
                part.mkdir()
                for name, array in arrays.items():
                    np.save(part / f"{name}.npy", array)
                (part / "ids.txt").write_bytes("".join(lines).encode())
                if not chunk.exists():
                    os.rename(part, chunk)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._open(chunk)

    def read(self, images: Sequence[str], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of images, each (len(images), ...); `names`: only these. Raises KeyError for an unknown id."""
        stored = [self._stored[image] for image in images]
        names = list(stored[0][1]) if names is None else names
        return {name: np.stack([arrays[name][row] for _, arrays, row in stored]) for name in names}

    def is_of(self, image: str, encoded: bytes) -> bool:
        """Whether the features stored under this id belong to these bytes."""
        return self._stored[image][0] == _digest(encoded)

    def _open(self, chunk: pathlib.Path) -> None:
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(chunk.glob("*.npy"))}
        # Not splitlines: an id may hold other characters at which it breaks.
        lines = (chunk / "ids.txt").read_bytes().decode().removesuffix("\n").split("\n")
        for row, line in enumerate(lines):
            digest, image = line.split(" ", 1)
            self._stored[image.replace("\0", "\n")] = digest, arrays, row


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
