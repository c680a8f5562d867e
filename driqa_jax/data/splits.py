"""Named parts of a source, and the checks that they share no content.

Every choice uses a stable hash, so it is the same in every process and release.
"""

import hashlib
from collections import defaultdict

import numpy as np

from driqa_jax.data.source import Source, Subset
from driqa_jax.errors import DataError


def fraction(text: str, seed: int | str = 0) -> float:
    """A number in [0, 1) that depends only on `text` and `seed` (sha256, not Python's salted hash)."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hash_ranks(groups: np.ndarray, seed: int | str = 0) -> np.ndarray:
    """Rank by hash of each group name, (N,) str, among the distinct names: (N,) int from 0."""
    names, inverse = np.unique(groups, return_inverse=True)
    ranked = np.argsort([fraction(str(name), seed) for name in names], kind="stable")
    return np.argsort(ranked)[inverse]


def in_validation(groups: np.ndarray, seed: int | str = 0, share: float = 0.1) -> np.ndarray:
    """Whether each group name, (N,) str, belongs to the validation fold: (N,) bool.

    The fold is the `share` of the groups (at least one) with the lowest hashes, so it stays stable as a set grows.
    """
    ranks = hash_ranks(groups, seed)
    return ranks < max(1, round(share * (ranks.max(initial=-1) + 1)))


def novel(source: Source, part: Source) -> np.ndarray:
    """Which images of `part`, a part of `source`, have a group without members in another split: (N,) bool."""
    shared, _ = _in_several(source.column("group"), source.column("split"))
    return ~np.isin(part.column("group"), shared)


def _in_several(values: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur in several splits, sorted, and all distinct pairs of value and split, (P, 2)."""
    pairs = np.unique(np.stack([values, splits], axis=1), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True)
    return names[counts > 1], pairs


def select(source: Source, spec: str, seed: int = 0, min_mos: float | None = None) -> Source:
    """A part of a source by name, in the source's order.

    `spec`: "all", or a split of the data set ("train", "test", ...). "/val" after it keeps a tenth of its groups,
    chosen by hash, "/fit" the rest, and "/novel" the images whose group has no member in any other split. `min_mos`
    keeps images with at least that mos.

    Raises DataError listing the splits if nothing is left, ValueError for an unknown part.
    """
    split, _, part = spec.partition("/")
    splits, groups = source.column("split"), source.column("group")
    keep = np.ones(len(source), bool) if split == "all" else splits == split
    if part in ("fit", "val"):
        keep[keep] = in_validation(groups[keep], seed) == (part == "val")
    elif part == "novel":
        keep &= novel(source, source)
    elif part:
        raise ValueError(f"unknown part {part!r} in {spec!r}; after the split comes /fit, /val, /novel or nothing")
    if min_mos is not None:
        keep &= source.column("mos") >= min_mos
    if not keep.any():
        counts = zip(*np.unique(splits, return_counts=True), strict=True)
        present = ", ".join(f"{name} ({count})" for name, count in counts) or "none"
        raise DataError(source.name, None, f"no picture in {spec!r}; its splits are: {present}")
    return Subset(source, np.flatnonzero(keep), f"{source.name}:{spec}")


def require_separate_references(source: Source, splits: np.ndarray) -> None:
    """Raises DataError if a reference of the source has images in two of `splits`, (N,) str ("" is no split)."""
    references = source.column("reference")
    known = (splits != "") & (references != "")
    shared, pairs = _in_several(references[known], splits[known])
    if len(shared):
        where = " and ".join(pairs[pairs[:, 0] == shared[0], 1])
        message = f"the reference {str(shared[0])!r} is in {where} ({len(shared)} such references); split by reference"
        raise DataError(source.name, None, message)


def require_separate_contents(source: Source, train: Source, val: Source, official: bool) -> str | None:
    """Check that `train` and `val`, parts of `source`, share no content with held-out images.

    Held out are the images of `val` and of every split that `train` takes nothing from. Returns None if nothing is
    shared. An `official` split may share near duplicates: then the result is the warning to print, and the images
    without near duplicates can be evaluated alone ("test/novel").

    Raises DataError if a reference is shared, or if a group is shared and the split is not `official`.
    """
    ids, splits = source.column("image_id"), source.column("split")
    inside = np.isin(ids, train.column("image_id"))
    held = ~inside & (np.isin(ids, val.column("image_id")) | ~np.isin(splits, train.column("split"))) & (splits != "")
    for key, what in (("reference", "reference"), ("group", "scene")):
        values = source.column(key)
        shared = held & np.isin(values, train.column(key)) & (values != "")
        if not shared.any():
            continue
        first = np.flatnonzero(shared)[0]
        other = np.flatnonzero(inside & (values == values[first]))[0]
        message = (
            f"{shared.sum()} of {held.sum()} held-out images share a {what} with the training part {train.name}: "
            f"'{ids[first]}' ({splits[first]}) and '{ids[other]}' ({splits[other]}), both '{values[first]}'"
        )
        if key == "reference" or not official:
            raise DataError(source.name, None, f"{message}; draw a split that keeps them together (driqa data split)")
        return f"{source.name}: {message}; report the figures of the /novel part too"
    return None


def require_separate_sources(whole: Source, train: Source) -> None:
    """Check that no image of one data set is held out in another; both sources join several data sets.

    Images with the same file name are compared by their bytes. Raises DataError with the two images.
    """
    trained, rows = {train.label(i) for i in range(len(train))}, defaultdict(list)
    for i, image in enumerate(train.column("image_id").tolist()):
        rows[image.rpartition("/")[2]].append(i)
    for j, image in enumerate(whole.column("image_id").tolist()):
        for i in rows[image.rpartition("/")[2]] if whole.label(j) not in trained else ():
            if train.column("dataset")[i] != whole.column("dataset")[j] and train.read(i) == whole.read(j):
                message = f"is held out, but the same image as '{train.label(i)}', which is trained on"
                raise DataError(whole.label(j), None, f"{message}; leave it out of one data set")
