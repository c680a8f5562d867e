"""Photographs for examinations: one size, upright, from the middle of each picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.pipeline import Order
from driqa_jax.data.source import Source
from driqa_jax.errors import UnreadableImage

LEAST, MOST = 224, 512  # px: a tile of the degradation encoder; about what data sets show
STEP = 32  # sides are multiples of it, which the restorer needs


def photographs(
    source: Source, count: int, seed: int = 0, halve: bool = False, side: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`count` pictures of a source, drawn from `seed` as a pretraining draws them, each a square of its middle.

    Args:
      halve: average 2x2 pixels into one first, which removes the traces of JPEG.
      side: of the squares, pixels; None: as large as the smallest picture of at least 224 allows, at most 512.

    Returns:
      Pictures, uint8 (S, S, 3), by image id, and why others were left out, by image id.
    """
    order = Order(len(source), seed)
    found, failed = {}, {}
    for position in range(min(count, len(source))):
        row = order(position)
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
        found[name] = image
    if found and side is None:
        side = min(MOST, min(min(image.shape[:2]) for image in found.values())) // STEP * STEP
    return {name: _middle(image, side) for name, image in found.items()}, failed


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    y, x = ((length - side) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[y : y + side, x : x + side])
