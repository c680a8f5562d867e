"""Apply one degradation to image files, or draw a contact sheet of degradations by severity on one photograph."""

import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from driqa_jax.data.decode import decode
from driqa_jax.degradations import apply
from driqa_jax.degradations.registry import Degradation, find
from driqa_jax.errors import UserError, reason, user_errors
from driqa_jax.io import image_bytes, make_folder, write_bytes

SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a contact sheet
_LABEL, _HEADER, _GAP, _FONT = 190, 30, 4, 15  # px
# Lossless formats and Pillow's options for them.
LOSSLESS = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True, "quality": 80, "method": 4},
    ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
    ".tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    ".bmp": {"format": "BMP"},
    ".ppm": {"format": "PPM"},
}


def known(name: str) -> Degradation:
    """The degradation of this name. Raises UserError with the nearest name if it is unknown."""
    with user_errors():
        return find(name)


def severity_of(name: str, severity: float | None, level: int | None) -> float:
    """The severity, given directly or as a KADID-10k level from 1 to 5.

    Raises UserError: unknown name, severity outside [0, 1], a level of a type without levels.
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
    """The output file of each image: `output` itself if it is a file name and there is one image, else files in it.

    extension: of files in a folder (default: .png). Raises UserError: equal names, a lossy format, or an output that
    would replace its input.
    """
    out = pathlib.Path(output)
    if len(paths) == 1 and out.suffix and not out.is_dir():
        targets = [out]
    else:
        targets = [out / (pathlib.Path(path).stem + (extension or ".png")) for path in paths]
    require_lossless(targets[0])
    taken: dict[pathlib.Path, str] = {}
    for path, target in zip(paths, targets, strict=True):
        if target in taken:
            raise UserError(f"{taken[target]} and {path} would both become {target}; use two output folders")
        if target.exists() and os.path.samefile(path, target):
            raise UserError(f"{path}: its result would replace it; give another -o")
        taken[target] = path
    return targets


def require_lossless(path: pathlib.Path) -> None:
    """Raises UserError if the extension is not one of `LOSSLESS`."""
    if path.suffix.lower() not in LOSSLESS:
        raise UserError(f"{path}: the extension must be one of {', '.join(LOSSLESS)}; other formats degrade the image")


def degrade_files(
    name: str, severity: float, seed: int, paths: Sequence[str], targets: Sequence[pathlib.Path]
) -> Iterator[tuple[str, str | None]]:
    """Degrade files one by one at full size; yields each path and the reason of a failure or None.

    The random key depends on the seed and the file name only, not on the other files.
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


def save(image: Image.Image, target: pathlib.Path) -> None:
    """Write an image without loss in the format of the extension, one of `LOSSLESS`; creates the folder.

    Raises UserError with the path if it cannot be written.
    """
    make_folder(target.parent)
    write_bytes(target, image_bytes(image, **LOSSLESS[target.suffix.lower()]))


def severity_grid(photo: np.ndarray, names: Sequence[str], seed: int = 0) -> np.ndarray:
    """Each degradation at each of `SEVERITIES`, in one compiled program: (names, severities, H, W, 3) uint8.

    photo: (H, W, 3) uint8, sides at least 32. The images of a row share a key, so only the severity differs. Raises
    ValueError for a smaller photo.
    """
    image = photo.astype(np.float32) / 255.0

    @jax.jit
    def rows(key: jax.Array, image: jax.Array, severities: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(names))
        images = [
            jax.lax.map(lambda s, name=name, key=key: apply(name, key, image, s), severities)
            for name, key in zip(names, keys, strict=True)
        ]
        return jnp.round(jnp.stack(images) * 255.0).astype(jnp.uint8)

    return np.asarray(rows(jax.random.key(seed), image, np.asarray(SEVERITIES, np.float32)))


def contact_sheet(grid: np.ndarray, names: Sequence[str]) -> Image.Image:
    """A `severity_grid` as one labeled image: a row for each name, a column for each severity."""
    rows, columns, height, width, _ = grid.shape
    size = (_LABEL + columns * (width + _GAP), _HEADER + rows * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for column, severity in enumerate(SEVERITIES):
        center = _LABEL + column * (width + _GAP) + width // 2
        draw.text((center, _HEADER // 2), f"{severity:g}", "black", font, anchor="mm")
    for row, name in enumerate(names):
        top = _HEADER + row * (height + _GAP)
        for line, word in enumerate(_lines(name, font)):
            draw.text((8, top + height // 2 + line * (_FONT + 4)), word, "black", font, anchor="lm")
        for column in range(columns):
            sheet.paste(Image.fromarray(grid[row, column]), (_LABEL + column * (width + _GAP), top))
    return sheet


def _lines(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The name, broken after underscores to fit the margin."""
    lines = [""]
    for part in name.replace("_", "_ ").split():
        fits = font.getlength(lines[-1] + part) <= _LABEL - 16
        lines = [*lines[:-1], lines[-1] + part] if fits else [*lines, part]
    return lines
