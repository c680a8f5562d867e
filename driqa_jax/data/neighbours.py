"""Near neighbours: pictures of a set that repeat one another, so that no split parts them.

A picture is described by its grey thumbnail of 16x16, mean removed, unit length; two whose descriptions (or
that of the mirror image) correlate above a threshold are neighbours, and neighbours of neighbours form one
cluster.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

SIDE = 16
# On BIQ2021 nearly all pairs above .97 are the same picture or the next frame of one scene; between .95 and
# .97 such pairs mix with strangers that share a bright sky over dark ground. A split may well keep those
# together too.
THRESHOLD = 0.95
_ROWS = 2048


def describe(encoded: bytes) -> np.ndarray:
    """An encoded picture -> float32 (256,), zero mean and unit length (zeros for a flat picture)."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG then decodes at an eighth of its size
        small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    centred = small.ravel() - small.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 1e-3 else np.zeros_like(centred)


def clusters(descriptions: Iterable[np.ndarray], threshold: float = THRESHOLD) -> np.ndarray:
    """Cluster of each picture, int (N,): the smallest row among the pictures it is connected with."""
    rows = np.stack(list(descriptions))
    mirrored = rows.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(rows.shape)
    parent = np.arange(len(rows))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        alike = np.maximum(block @ rows.T, block @ mirrored.T) >= threshold
        for i, j in zip(*np.nonzero(alike), strict=True):
            a, b = root(start + i), root(j)
            parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(rows))])
