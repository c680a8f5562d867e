"""Apply a tile network to a large image: overlapping tiles, blended without visible seams."""

import itertools
from collections.abc import Callable

import numpy as np

OVERLAP = 64  # px, at least; outputs near a tile's border lack context


def tile_starts(side: int, tile: int, overlap: int = OVERLAP) -> list[int]:
    """Tile offsets along a side of at least `tile` pixels: the fewest with enough overlap, evenly spaced."""
    count = 1 + -(-(side - tile) // (tile - min(overlap, tile // 2)))
    return [round(float(x)) for x in np.linspace(0, side - tile, count)]


def through_tiles(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray], tile: int, batch: int) -> np.ndarray:
    """The image with `run` applied to all of it.

    Args:
      image: (H, W, 3) uint8. An image smaller than a tile is extended by mirroring, as in views.
      run: maps (batch, tile, tile, 3) uint8 to float of the same shape, clipped to [0, 1] afterwards. Always
        called with this shape: the last tile is repeated to fill the batch.
      tile: side of a tile, pixels.
      batch: tiles per call.

    Returns:
      (H, W, 3) uint8. Overlapping tiles are averaged with a Hann window.
    """
    height, width = image.shape[:2]
    below, right = max(tile - height, 0), max(tile - width, 0)
    padded = np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric")
    rows, columns = (tile_starts(side, tile) for side in padded.shape[:2])
    ramp = np.sin(np.pi * (np.arange(tile, dtype=np.float32) + 0.5) / tile) ** 2
    window = (ramp[:, None] * ramp[None, :])[:, :, None]
    total = np.zeros(padded.shape, np.float32)
    weight = np.zeros((*padded.shape[:2], 1), np.float32)
    every = list(itertools.product(rows, columns))
    for start in range(0, len(every), batch):
        corners = every[start : start + batch]
        tiles = [padded[y : y + tile, x : x + tile] for y, x in corners]
        outputs = run(np.stack(tiles + tiles[-1:] * (batch - len(tiles))))
        for (y, x), part in zip(corners, np.asarray(outputs, np.float32), strict=False):
            total[y : y + tile, x : x + tile] += window * part
            weight[y : y + tile, x : x + tile] += window
    blended = np.clip(total / weight, 0.0, 1.0)[:height, :width]
    return np.rint(blended * 255).astype(np.uint8)
