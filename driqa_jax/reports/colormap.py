"""The quality map as colors over its image, and images as data: URLs."""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

COLOR_MAP = "viridis"  # perceptually uniform and readable with common color blindness
_OPACITY = 0.7
_GRAY = 128.0  # under the color bar


def colors(values: np.ndarray, under: np.ndarray | float = _GRAY) -> np.ndarray:
    """Scores in [0, 100], any shape, to uint8 (..., 3): `COLOR_MAP` blended over `under`, gray in [0, 255]."""
    indices = np.rint(np.clip(np.asarray(values, np.float64), 0, 100) * 2.55).astype(int)
    gray = np.asarray(under, np.float32)[..., None]
    return np.rint(_OPACITY * _table()[indices] + (1 - _OPACITY) * gray).astype(np.uint8)


def color_stops(count: int = 11) -> list[str]:
    """CSS colors of the color bar from 0 to 100 in equal steps."""
    return ["#" + bytes(rgb).hex() for rgb in colors(np.linspace(0, 100, count))]


def overlay(explanation: Explanation) -> np.ndarray:
    """The quality map, bilinearly enlarged, over the gray image; uint8, the size of `explanation.picture`."""
    height, width = explanation.picture.shape[:2]
    smooth = Image.fromarray(explanation.quality_map).resize((width, height), Image.Resampling.BILINEAR)
    return colors(np.asarray(smooth), np.asarray(Image.fromarray(explanation.picture).convert("L")))


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """A uint8 (H, W, 3) image reduced so that no side exceeds `side` pixels; never enlarged."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def data_url(image: np.ndarray, kind: str, **options: Any) -> str:
    """A uint8 (H, W, 3) image as a data: URL. `options` are Pillow's for the format `kind`, "png" or "webp"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


@functools.cache
def _table() -> np.ndarray:
    from matplotlib import colormaps

    return colormaps[COLOR_MAP](np.arange(256), bytes=True)[:, :3].astype(np.float32)
