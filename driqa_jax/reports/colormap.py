"""The quality map over its photo, and pictures as bytes."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

COLOUR_MAP = "viridis"  # perceptually uniform, and readable with any common colour vision
_OPACITY = 0.7
_GREY = 128.0  # under a colour bar, where there is no photo


def colours(values: np.ndarray, under: np.ndarray | float = _GREY) -> np.ndarray:
    """Scores, any shape, 0 to 100, to uint8 (..., 3): `COLOUR_MAP`, laid over `under`, grey from 0 to 255."""
    places = np.rint(np.clip(np.asarray(values, np.float64), 0, 100) * 2.55).astype(int)
    grey = np.asarray(under, np.float32)[..., None]
    return np.rint(_OPACITY * _table()[places] + (1 - _OPACITY) * grey).astype(np.uint8)


def colour_stops(count: int = 11) -> list[str]:
    """The colour bar from 0 to 100 in equal steps, as CSS colours."""
    return ["#" + bytes(rgb).hex() for rgb in colours(np.linspace(0, 100, count))]


def overlay(explanation: Explanation) -> np.ndarray:
    """The quality map, smoothly enlarged, over the photo in grey; uint8, as large as `explanation.picture`."""
    height, width = explanation.picture.shape[:2]
    smooth = Image.fromarray(explanation.quality_map).resize((width, height), Image.Resampling.BILINEAR)
    return colours(np.asarray(smooth), np.asarray(Image.fromarray(explanation.picture).convert("L")))


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture, uint8 (H, W, 3), made so small that no side is longer than `side` pixels; never larger."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def encoded(picture: np.ndarray, kind: str = "png", quality: int = 85) -> bytes:
    """A picture, uint8 (H, W, 3), as the bytes of a file: "png", "jpeg" or "webp"; the same for the same pixels."""
    file = io.BytesIO()
    options = {} if kind == "png" else {"quality": quality}
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


@functools.cache
def _table() -> np.ndarray:
    from matplotlib import colormaps

    return colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3].astype(np.float32)
