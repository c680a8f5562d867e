"""Near duplicates: images of one scene, which a split must keep together.

The descriptor of an image is the low spatial frequencies of a small gray thumbnail, each weighted by its frequency. The
plain thumbnail does not work: two bright skies over dark ground correlate at .95, as much as two exposures of one
scene. Amplitudes in photographs fall as 1/f, so the weights make all frequencies count equally; purely horizontal and
vertical ones get half the weight, because of horizons. Brightness and contrast cancel.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from driqa_jax.data.decode import MAX_PIXELS, pillow_limit
from driqa_jax.errors import DataError

SIDE, FREQUENCIES = 32, 12
# Chosen by inspecting pairs of BIQ2021: above .65 nearly all show one scene, except some horizons and single lights; at
# .55 unrelated images chain, and the largest cluster grows from 24 images to 140.
THRESHOLD = 0.65
LARGEST = 40
Required = Callable[[np.ndarray, np.ndarray], np.ndarray]
_FLAT = 1.0  # weighted energy below which a thumbnail contains only rounding errors
_ROWS = 512  # the similarities to 10,000 images then take 20 MB
# Mirroring an image negates its odd horizontal frequencies.
_MIRROR = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)


def describe(encoded: bytes) -> np.ndarray:
    """The descriptor of an encoded image: float32 (144,) of unit length (zeros for a flat image)."""
    with pillow_limit.set_to(MAX_PIXELS), Image.open(io.BytesIO(encoded)) as image:
        image.draft("L", (2 * SIDE, 2 * SIDE))  # decodes a JPEG at reduced size
        return describe_image(ImageOps.exif_transpose(image))


def describe_image(image: Image.Image) -> np.ndarray:
    """The descriptor of an upright image, as `describe` gives it."""
    small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    waves = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES] * _weights()
    length = np.linalg.norm(waves)
    return (waves / length if length > _FLAT else np.zeros_like(waves)).astype(np.float32).ravel()


def describe_all(
    items: Sequence[Any], read: Callable[[Any], bytes], names: Callable[[Any], tuple[Any, str]], tell: Callable
) -> np.ndarray:
    """The descriptors of `read(item)` for all items, (N, 144); `tell()` is called after each.

    Raises DataError for an image that cannot be read: `names(item)` gives the file or the set, and the image's name.
    """

    def descriptor(item):
        try:
            return describe(read(item))
        except Exception as cause:  # Pillow raises many kinds of exceptions on a damaged file
            file, name = names(item)
            raise DataError(file, None, f"{name} cannot be read ({cause})") from cause

    rows = []
    with ThreadPoolExecutor() as threads:
        for row in threads.map(descriptor, items):
            rows.append(row)
            tell()
    return np.stack(rows)


def clusters(
    descriptions: Iterable[np.ndarray],
    threshold: float = THRESHOLD,
    largest: int = LARGEST,
    required: Required | None = None,
    alternatives: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Cluster of each image, int64 (N,): the smallest row among the connected images.

    Two images are connected if one correlates with the other, or its mirror image, at `threshold` or more. Clusters
    larger than `largest` are split at increasing thresholds, so that chains of weak similarity cannot absorb the set.

    Args:
      descriptions: N descriptors, (144,) each.
      threshold, largest: see above.
      required: maps rows (n,) and rows (m,) to the similarities (n, m) that their pairs need besides `threshold`.
      alternatives: other descriptors of the same images, (N, 144) each; the best of them counts. None: mirror images.
    """
    rows = np.stack(list(descriptions))
    compared = [rows, *([_mirrored(rows)] if alternatives is None else alternatives)]
    labels = np.empty(len(rows), np.int64)
    _label(compared, np.arange(len(rows)), threshold, largest, required, labels)
    return labels


def pairs(
    left: np.ndarray, right: np.ndarray, threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Near duplicates between two sets of descriptors, (N, 144) and (M, 144): rows i, rows j, similarity; best first.

    The similarity in [-1, 1] is the correlation with the other image or its mirror image, whichever is higher.
    """
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    for start, similarity in _blocks(left, [right, _mirrored(right)]):
        i, j = np.nonzero(similarity >= threshold)
        found.append((i + start, j, similarity[i, j]))
    i, j, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((j, i, -similarity))
    return i[order], j[order], similarity[order]


def _label(compared, members, threshold, largest, required, labels):
    components = _components(compared, members, threshold, required)
    order = np.argsort(components, kind="stable")
    for cluster in np.split(members[order], np.flatnonzero(np.diff(components[order])) + 1):
        if len(cluster) > largest and threshold < 0.99:
            _label(compared, cluster, min(threshold + 0.05, 0.99), largest, required, labels)
        else:
            labels[cluster] = cluster.min()


def _components(compared, members, threshold, required):
    """Component of each member. Each block's pairs are merged at once: those of all blocks may not fit the memory."""
    components = np.arange(len(members))
    whole = len(members) == len(compared[0])
    rights = compared if whole else [rows[members] for rows in compared]
    for start, similarity in _blocks(rights[0], rights):
        needed = threshold
        if required is not None:
            needed = np.maximum(threshold, required(members[start : start + len(similarity)], members))
        i, j = np.nonzero(similarity >= needed)
        ends = components[i + start], components[j]
        graph = coo_matrix((np.ones(len(i), np.int8), ends), shape=(len(members), len(members)))
        _, merged = connected_components(graph, directed=False)
        components = merged[components]
    return components


def _blocks(left, rights):
    """The first row of each block of `left`, and the best similarities of its rows to the rows of all `rights`."""
    for start in range(0, len(left), _ROWS):
        block = left[start : start + _ROWS]
        similarity = block @ rights[0].T
        for right in rights[1:]:
            np.maximum(similarity, block @ right.T, out=similarity)
        yield start, similarity


def _mirrored(rows):
    return (rows.reshape(-1, FREQUENCIES, FREQUENCIES) * _MIRROR[None, None, :]).reshape(rows.shape)


def _weights():
    frequency = np.arange(FREQUENCIES, dtype=np.float32)
    weights = np.hypot(frequency[:, None], frequency[None, :])
    weights[0, :] *= 0.5
    weights[:, 0] *= 0.5
    return weights
