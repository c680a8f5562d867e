"""One degradation put on picture files."""

from __future__ import annotations

import io
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.degradations import apply
from driqa_jax.degradations.registry import Degradation, find
from driqa_jax.errors import UserError, reason
from driqa_jax.io import write_whole

# Formats that add no degradation of their own, and how Pillow writes them.
LOSSLESS = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True, "quality": 80, "method": 4},
    ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
    ".tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    ".bmp": {"format": "BMP"},
    ".ppm": {"format": "PPM"},
}


def known(name: str) -> Degradation:
    """The degradation of this name. Raises UserError, with the nearest name, where there is none."""
    try:
        return find(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def severity_of(name: str, severity: float | None, level: int | None) -> float:
    """The severity asked for, directly or as one of KADID-10k's levels 1 to 5.

    Raises UserError: an unknown name, a severity outside [0, 1], a level of a type that has none.
    """
    entry = known(name)
    if level is None:
        if not 0.0 <= severity <= 1.0:
            raise UserError(f"--severity {severity}: give a number in [0, 1]")
        return severity
    if entry.kadid_levels is None:
        raise UserError(f"{name} has no levels of KADID-10k; give --severity instead of --level")
    if not 1 <= level <= len(entry.kadid_levels):
        raise UserError(f"--level {level}: give 1 to {len(entry.kadid_levels)}")
    return entry.kadid_levels[level - 1]


def destinations(paths: Sequence[str], output: str, extension: str | None) -> list[pathlib.Path]:
    """Where each picture goes: OUT itself where it is a file name for one picture, else files in the folder OUT.

    extension: of files in a folder (default: .png). Raises UserError: two would have one name, a format that
    loses something, or a picture would replace itself.
    """
    out = pathlib.Path(output)
    if len(paths) == 1 and out.suffix and not out.is_dir():
        found = [out]
    else:
        found = [out / (pathlib.Path(path).stem + (extension or ".png")) for path in paths]
    if found[0].suffix.lower() not in LOSSLESS:
        raise UserError(
            f"{found[0]}: the extension must be one of {', '.join(LOSSLESS)}; others would degrade the picture further"
        )
    taken: dict[pathlib.Path, str] = {}
    for path, target in zip(paths, found, strict=True):
        if target in taken:
            raise UserError(f"{taken[target]} and {path} would both become {target}; degrade them into two folders")
        if target.exists() and os.path.samefile(path, target):
            raise UserError(f"{path}: its result would replace it; give another -o")
        taken[target] = path
    return found


def degrade_files(
    name: str, severity: float, seed: int, paths: Sequence[str], targets: Sequence[pathlib.Path]
) -> Iterator[tuple[str, str | None]]:
    """Degrade files one after another, at their own size; yields each path, and what went wrong with it or None.

    What is random hangs on the seed and the file's name, so the other files do not matter.
    """
    program = jax.jit(lambda key, image: apply(name, key, image, severity))
    for path, target in zip(paths, targets, strict=True):
        try:
            image = decode(path)
            key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(pathlib.Path(path).name.encode()))
            degraded = np.asarray(program(key, image.astype(np.float32) / 255.0))
        except Exception as error:
            yield path, reason(error, path)
            continue
        save(Image.fromarray(np.rint(degraded * 255.0).astype(np.uint8)), target)
        yield path, None


def save(picture: Image.Image, target: pathlib.Path) -> None:
    """Write a picture without loss, in the format of the extension, one of LOSSLESS; folders are made.

    Raises UserError, naming the path, where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be made ({error.strerror or error})") from None
    file = io.BytesIO()
    picture.save(file, **LOSSLESS[target.suffix.lower()])
    write_whole(target, file.getvalue())
