"""Twins: the same picture once more, changed as a person does not see: a little smaller, and encoded again."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

PREFIX = "twin_"
FINEST = 98  # JPEG's quality at most: beyond, hardly a pixel differs
_KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclasses.dataclass(frozen=True)
class Twins:
    """Which pictures have one, and how far it goes.

    every: every so many-th picture of the stream.
    shrink: it has at least this share of the picture's sides.
    quality: of the JPEG, at least, on libjpeg's scale.

    Raises ValueError, naming the field, for what cannot be.
    """

    every: int
    shrink: float
    quality: int

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every={self.every}: give 1 or more")
        if not 0.0 < self.shrink <= 1.0:
            raise ValueError(f"shrink={self.shrink}: a share of a photo's sides is above 0, at most 1")
        if not 1 <= self.quality <= FINEST:
            raise ValueError(f"quality={self.quality}: give 1 to {FINEST}")

    def twin(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Of an RGB image: resized, encoded, or both, each in a third of the cases."""
        what, again = rng.integers(3), encoding(self.quality, rng)
        twin = image if what == 1 else resizing(self.shrink, rng)(image)
        return twin if what == 0 else again(twin)


def resizing(least: float, rng: np.random.Generator) -> Callable[[Image.Image], Image.Image]:
    """To a share of its sides, between `least` and all, by one of Pillow's kernels; drawn now, done when called."""
    factor, kernel = rng.uniform(least, 1.0), _KERNELS[rng.integers(len(_KERNELS))]

    def resized(image: Image.Image) -> Image.Image:
        width, height = (max(round(side * factor), 1) for side in image.size)
        return image.resize((width, height), kernel)

    return resized


def encoding(least: int, rng: np.random.Generator) -> Callable[[Image.Image], Image.Image]:
    """As a JPEG of a quality between `least` and FINEST; drawn now, done when called."""
    quality = int(rng.integers(least, FINEST + 1))

    def encoded(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return encoded
