"""Photographs for examinations: upright squares of one size from the center of each image."""

import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.pipeline import Order
from driqa_jax.data.source import Source
from driqa_jax.errors import UnreadableImage

LEAST, MOST = 224, 512  # px: one tile of the degradation encoder; the usual size in data sets
STEP = 32  # the restorer needs sides that are multiples of it


def photographs(
    source: Source, count: int, seed: int = 0, halve: bool = False, side: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Center squares of `count` images, drawn with `seed` in the same order as in pretraining.

    halve: average 2x2 pixels first, which removes JPEG artifacts. side: px; None: the largest that every image of at
    least 224 allows, at most 512. Returns images, (S, S, 3) uint8, and the reasons for the omitted ones, by image id.
    """
    order = Order(len(source), seed)
    images, failed = {}, {}
    for row in map(order, range(min(count, len(source)))):
        name = str(source.column("image_id")[row])
        try:
            image = decode(source.read(row), name=name)
        except (UnreadableImage, OSError) as error:
            failed[name] = " ".join(str(error).split())
            continue
        if halve:
            image = np.asarray(Image.fromarray(image).reduce(2))
        least = side or LEAST
        if min(image.shape[:2]) < least:
            failed[name] = f"{image.shape[1]}x{image.shape[0]} is smaller than {least} pixels"
            continue
        images[name] = image
    if images and side is None:
        side = min(MOST, min(min(image.shape[:2]) for image in images.values())) // STEP * STEP
    return {name: center_square(image, side) for name, image in images.items()}, failed


def center_square(image: np.ndarray, side: int) -> np.ndarray:
    """The center of (H, W, 3) without scaling: (S, S, 3), S = min(side, H, W)."""
    side = min(side, *image.shape[:2])
    y, x = ((length - side) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[y : y + side, x : x + side])
