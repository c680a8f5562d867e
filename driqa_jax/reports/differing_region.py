"""Find the region in which the shots of one scene differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

COMPARED = 512  # px of the long side at which shots are compared


def thumbnail(image: Image.Image) -> np.ndarray:
    """The gray image to compare, float32, at most `COMPARED` pixels a side."""
    small = image.convert("L")
    small.thumbnail((COMPARED, COMPARED), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def differing_region(thumbnails: Sequence[np.ndarray], share: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in [0, 1], of the square region in which the shots differ most.

    Args:
      thumbnails: (H, W) float32 gray images from `thumbnail`; others are resized to the size of the first.
      share: side of the square as a share of the short side, in (0, 1].

    Brightness and contrast of a whole shot do not count. Of equal images the region is the center.
    """
    height, width = thumbnails[0].shape
    shots = np.stack([_standard(_resized(one, width, height)) for one in thumbnails])
    side = max(round(share * min(height, width)), 1)
    difference = uniform_filter(np.abs(shots - np.median(shots, axis=0)).mean(axis=0), side, mode="constant")
    rows, columns = height - side + 1, width - side + 1  # where a whole square fits
    half = side // 2
    inside = difference[half : half + rows, half : half + columns]
    y, x = np.unravel_index(np.argmax(inside), inside.shape) if inside.max() > 1e-3 else (rows // 2, columns // 2)
    return x / width, y / height, (x + side) / width, (y + side) / height


def _resized(gray: np.ndarray, width: int, height: int) -> np.ndarray:
    if gray.shape == (height, width):
        return gray
    return np.asarray(Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR))


def _standard(gray: np.ndarray) -> np.ndarray:
    return (gray - gray.mean()) / max(float(gray.std()), 1.0)
