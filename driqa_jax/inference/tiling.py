"""A large picture through a network for tiles: overlapping tiles, blended so that no seam shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

OVERLAP = 64  # px, the least two neighbours share; a tile's own border knows nothing of what lies beyond it


def tile_starts(side: int, tile: int, overlap: int = OVERLAP) -> list[int]:
    """Where tiles begin along a side of at least `tile` pixels: the fewest that overlap enough, evenly spaced."""
    count = 1 + -(-(side - tile) // (tile - min(overlap, tile // 2)))
    return [round(float(x)) for x in np.linspace(0, side - tile, count)]


def through_tiles(picture: np.ndarray, run: Callable[[np.ndarray], np.ndarray], tile: int, batch: int) -> np.ndarray:
    """A picture, every part of it passed through `run`.

    Args:
      picture: uint8 (H, W, 3). Smaller than a tile, it is extended by its mirror image, as views are.
      run: tiles uint8 (batch, tile, tile, 3), the last repeated where there are fewer, to float in [0, 1] of the same
        shape (values beyond are clipped at the end); always called with this one shape.
      tile: side of a tile, pixels.
      batch: tiles in a call.

    Returns:
      uint8 (H, W, 3). Where tiles overlap, their mean weighted by a Hann window.
    """
    height, width = picture.shape[:2]
    below, right = max(tile - height, 0), max(tile - width, 0)
    padded = np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric")
    rows, columns = (tile_starts(side, tile) for side in padded.shape[:2])
    ramp = np.sin(np.pi * (np.arange(tile, dtype=np.float32) + 0.5) / tile) ** 2
    window = (ramp[:, None] * ramp[None, :])[:, :, None]
    total = np.zeros(padded.shape, np.float32)
    weight = np.zeros((*padded.shape[:2], 1), np.float32)
    for places in _chunks(itertools.product(rows, columns), batch):
        cut = [padded[y : y + tile, x : x + tile] for y, x in places]
        done = run(np.stack(cut + cut[-1:] * (batch - len(cut))))
        for (y, x), part in zip(places, np.asarray(done, np.float32), strict=False):
            total[y : y + tile, x : x + tile] += window * part
            weight[y : y + tile, x : x + tile] += window
    blended = np.clip(total / weight, 0.0, 1.0)[:height, :width]
    return np.rint(blended * 255).astype(np.uint8)


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk
