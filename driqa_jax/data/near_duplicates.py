"""Near neighbours: pictures of a set that show one scene, so that no split parts them.

A picture is described by the low spatial frequencies of a small grey thumbnail, each weighted by its
frequency. The plain thumbnail would not do: any two bright skies over dark ground correlate at .95, as much
as two exposures of one scene. Photographs' amplitudes fall as 1/f, so the weight lets all frequencies count
alike, and half of it on the purely horizontal and vertical ones makes horizons count less. Brightness and
contrast drop out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SIDE, FREQUENCIES = 32, 12
# Chosen by looking at pairs of BIQ2021: above .65 nearly all show one scene, save for some horizons and lone
# lights; at .55 strangers chain, and the largest cluster jumps from 24 pictures to 140.
THRESHOLD = 0.65
LARGEST = 40
_FLAT = 1.0  # weighted energy below which a thumbnail shows nothing but rounding
_ROWS = 2048
# A mirrored picture has its odd horizontal frequencies negated.
_MIRROR = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)


def describe(encoded: bytes) -> np.ndarray:
    """An encoded picture -> float32 (144,) of unit length (zeros for a flat picture)."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("L", (2 * SIDE, 2 * SIDE))  # a JPEG then decodes at an eighth of its size
        grey = ImageOps.exif_transpose(image).convert("L")
        small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    waves = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES] * _weights()
    length = np.linalg.norm(waves)
    return (waves / length if length > _FLAT else np.zeros_like(waves)).astype(np.float32).ravel()


def clusters(descriptions: Iterable[np.ndarray], threshold: float = THRESHOLD, largest: int = LARGEST) -> np.ndarray:
    """Cluster of each picture, int64 (N,): the smallest row among those it is connected with.

    Two pictures are connected where one and the other, or its mirror image, correlate at `threshold` or more.
    A cluster of more than `largest` is parted at ever higher thresholds, lest a chain of vague likenesses
    swallow the set.
    """
    rows = np.stack(list(descriptions))
    labels = np.empty(len(rows), np.int64)
    _label(rows, np.arange(len(rows)), threshold, largest, labels)
    return labels


def pairs(
    left: np.ndarray, right: np.ndarray, threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours between two sets of descriptions, (N, 144) and (M, 144): rows i, rows j, similarity, the best first.

    The similarity is the correlation with the other picture or its mirror image, whichever is higher, in [-1, 1].
    """
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    mirrored = _mirrored(right)
    for start in range(0, len(left), _ROWS):
        block = left[start : start + _ROWS]
        alike = np.maximum(block @ right.T, block @ mirrored.T)
        i, j = np.nonzero(alike >= threshold)
        found.append((i + start, j, alike[i, j]))
    i, j, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((j, i, -similarity))
    return i[order], j[order], similarity[order]


def _label(rows, members, threshold, largest, labels):
    graph = _alike(rows[members], threshold)
    _, found = connected_components(graph, directed=False)
    order = np.argsort(found, kind="stable")
    for cluster in np.split(members[order], np.flatnonzero(np.diff(found[order])) + 1):
        if len(cluster) > largest and threshold < 0.99:
            _label(rows, cluster, min(threshold + 0.05, 0.99), largest, labels)
        else:
            labels[cluster] = cluster.min()


def _alike(rows, threshold):
    """Which of N descriptions are neighbours: a sparse (N, N) matrix, filled a block of rows at a time."""
    mirrored = _mirrored(rows)
    left, right = [], []
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        i, j = np.nonzero(np.maximum(block @ rows.T, block @ mirrored.T) >= threshold)
        left.append(i + start)
        right.append(j)
    left, right = np.concatenate(left), np.concatenate(right)
    return coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(len(rows), len(rows)))


def _mirrored(rows):
    return (rows.reshape(-1, FREQUENCIES, FREQUENCIES) * _MIRROR[None, None, :]).reshape(rows.shape)


def _weights():
    frequency = np.arange(FREQUENCIES, dtype=np.float32)
    weights = np.hypot(frequency[:, None], frequency[None, :])
    weights[0, :] *= 0.5
    weights[:, 0] *= 0.5
    return weights
