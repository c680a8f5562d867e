"""Parts of an image, drawn at random: where a composite has its fault, or where light falls.

A shape is a function of the places of pixels that is above 0 inside, and whose slope is that of a feathered edge.
"""

import numpy as np
from PIL import Image

SMALLEST, LARGEST = 0.1, 0.6  # share of the image that a mask covers


def mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A half plane, ellipse, blob or box over 10 to 60 % of the image: float32 (height, width) in [0, 1]."""
    y, x = places(height, width)
    shape = (half_plane, _ellipse, _blob, box)[rng.integers(4)]
    for _ in range(20):
        inside = shape(rng, y, x)
        if SMALLEST <= (inside > 0).mean() <= LARGEST:
            break
    return np.clip(inside + 0.5, 0, 1) if rng.random() < 0.5 else (inside > 0).astype(np.float32)


def places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of all pixels in fractions of the image, float32 (height, width) each."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y / height, x / width


def half_plane(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Above 0 on one side of a line near the middle."""
    angle = rng.uniform(0, 2 * np.pi)
    return 8 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) - rng.uniform(-0.25, 0.25))


def _ellipse(rng, y, x):
    (row, column), (high, wide) = rng.uniform(0.2, 0.8, 2), rng.uniform(0.15, 0.5, 2)
    return 5 * (1 - np.hypot((y - row) / high, (x - column) / wide))


def _blob(rng, y, x):
    noise = Image.fromarray(rng.standard_normal((4, 5)).astype(np.float32))
    smooth = np.asarray(noise.resize(x.shape[::-1], Image.Resampling.BICUBIC))
    return 4 * (smooth - np.quantile(smooth, 1 - rng.uniform(0.12, LARGEST)))


def box(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Above 0 in a box near the middle."""
    (row, column), (high, wide) = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.4, 2)
    return 20 * np.minimum(high - abs(y - row), wide - abs(x - column))
