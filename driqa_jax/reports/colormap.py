"""The quality map as colors over its image, and images as data: URLs."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from driqa_jax.inference.explain import MAP_RESOLUTION
from driqa_jax.io import image_bytes

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

COLOR_MAP = "viridis"  # perceptually uniform and readable with common color blindness
_OPACITY = 0.7
EVEN = f"even: the parts differ by less than {MAP_RESOLUTION:g} points"
_GRAY = 128.0  # under the color bar
EVEN_COLOR = "#8f9aa6"  # of a map without differences; none of `COLOR_MAP`


def colors(
    values: np.ndarray, under: np.ndarray | float = _GRAY, scale: tuple[float, float] = (0.0, 100.0)
) -> np.ndarray:
    """Scores, any shape, to uint8 (..., 3): `COLOR_MAP` over `scale` blended over `under`, gray in [0, 255]."""
    low, high = scale
    share = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return _blended(_table()[np.rint(255 * share).astype(int)], under)


def color_stops(count: int = 11) -> list[str]:
    """CSS colors of the color bar from 0 to 100 in equal steps."""
    return ["#" + bytes(rgb).hex() for rgb in colors(np.linspace(0, 100, count))]


def overlay(explanation: Explanation) -> np.ndarray:
    """The quality map, bilinearly enlarged, over the gray image; uint8, the size of `explanation.picture`.

    The colors span `explanation.map_scale`. An even map has one neutral color.
    """
    height, width = explanation.picture.shape[:2]
    gray = np.asarray(Image.fromarray(explanation.picture).convert("L"))
    if explanation.even:
        return _blended(np.array(list(bytes.fromhex(EVEN_COLOR[1:])), np.float32), gray)
    smooth = Image.fromarray(explanation.quality_map).resize((width, height), Image.Resampling.BILINEAR)
    return colors(np.asarray(smooth), gray, explanation.map_scale)


def map_words(explanation: Explanation) -> str:
    """What the map says, for display."""
    low, high = (f"{value:.1f}" for value in (explanation.quality_map.min(), explanation.quality_map.max()))
    return f"Quality map{': even' if explanation.even else ''}, from {low} to {high}"


def _blended(color: np.ndarray, under: np.ndarray | float) -> np.ndarray:
    gray = np.asarray(under, np.float32)[..., None]
    return np.rint(_OPACITY * color + (1 - _OPACITY) * gray).astype(np.uint8)


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
    encoded = base64.b64encode(image_bytes(Image.fromarray(image), kind, **options))
    return f"data:image/{kind};base64,{encoded.decode()}"


@functools.cache
def _table() -> np.ndarray:
    from matplotlib import colormaps

    return colormaps[COLOR_MAP](np.arange(256), bytes=True)[:, :3].astype(np.float32)
