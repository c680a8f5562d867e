"""Twins: imperceptibly changed copies of images (slightly smaller, or encoded again) for the consistency loss."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from driqa_jax.io import image_bytes

PREFIX = "twin_"
FINEST = 98  # highest JPEG quality: above it hardly a pixel changes
_KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclasses.dataclass(frozen=True)
class Twins:
    """Which images have a twin, and its largest change.

    every: every `every`-th image of the stream has one. shrink: its smallest size, as a share of the image's sides.
    quality: its lowest JPEG quality on libjpeg's scale.

    Raises ValueError naming the invalid field.
    """

    every: int
    shrink: float
    quality: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every={self.every}: give 1 or more")
        if not 0.0 < self.shrink <= 1.0:
            raise ValueError(f"shrink={self.shrink}: give a share of an image's sides above 0 and at most 1")
        if not 1 <= self.quality <= FINEST:
            raise ValueError(f"quality={self.quality}: give 1 to {FINEST}")

    def twin(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The twin of an RGB image: resized, encoded, or both, each with probability 1/3."""
        change, encode = rng.integers(3), encoding(self.quality, rng)
        twin = image if change == 1 else resizing(self.shrink, rng)(image)
        return twin if change == 0 else encode(twin)


def resizing(least: float, rng: np.random.Generator) -> Callable[[Image.Image], Image.Image]:
    """A resize to a random share of the sides, in [least, 1], with a random kernel, both drawn immediately."""
    factor, kernel = rng.uniform(least, 1.0), _KERNELS[rng.integers(len(_KERNELS))]

    def resize(image: Image.Image) -> Image.Image:
        width, height = (max(round(side * factor), 1) for side in image.size)
        return image.resize((width, height), kernel)

    return resize


def encoding(least: int, rng: np.random.Generator) -> Callable[[Image.Image], Image.Image]:
    """A JPEG round trip with a random quality in [least, FINEST]; the quality is drawn immediately."""
    quality = int(rng.integers(least, FINEST + 1))
    return lambda image: Image.open(io.BytesIO(image_bytes(image, "JPEG", quality=quality))).convert("RGB")
