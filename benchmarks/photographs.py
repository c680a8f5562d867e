"""Photographs for benchmarks, reduced to the size that human scores of degradations belong to, and what is done to
them with Pillow and numpy rather than by the bank that models learn from."""

from __future__ import annotations

import io
import pathlib

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from driqa_jax.data.decode import decode
from driqa_jax.reports.inputs import list_pictures

SIZE, SQUARE = (512, 384), (448, 448)


def photographs(folder: str, squares: bool = True) -> dict[str, np.ndarray]:
    """Those of a folder by file name, (H, W, 3) uint8, 512x384 pixels lying or upright.

    `squares`: every third is a square of about the same area. Raises UserError for a folder without images.
    """
    paths = enumerate(list_pictures([folder]))
    return {pathlib.Path(path).name: reduced(decode(path), squares and number % 3 == 2) for number, path in paths}


def reduced(photo: np.ndarray, square: bool = False) -> np.ndarray:
    """A photograph (H, W, 3) uint8 as 512x384 pixels, 384x512 if it is upright, or as a square."""
    image = Image.fromarray(photo)
    size = SQUARE if square else SIZE if image.width >= image.height else SIZE[::-1]
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC))


def encoded(image: np.ndarray, quality: int) -> np.ndarray:
    """What a JPEG file of this quality shows."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def blurred(image: np.ndarray, share: float) -> np.ndarray:
    """A Gaussian blur whose deviation is a share of the long side."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(share * max(image.shape))))


def resized(image: np.ndarray, scale: float, method: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    """At least 32 pixels a side."""
    size = tuple(max(32, round(side * scale)) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, method))


def defocused(image: np.ndarray, subject: bool) -> np.ndarray:
    """The subject in the middle is blurred (focus was missed), or all but the subject (bokeh)."""
    soft, height, width = blurred(image, 1 / 36), *image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    far = np.hypot((y / height - 0.5) / 0.32, (x / width - 0.5) / 0.22)
    inside = np.clip((1 - far) / 0.15 + 0.5, 0, 1)[..., None]
    share = inside if subject else 1 - inside
    return clipped(soft * share + image * (1 - share))


def clipped(image: np.ndarray) -> np.ndarray:
    """Rounded to uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
