"""Named parts of a source. Every choice rests on a stable hash: the same in every process, for ever."""

from __future__ import annotations

import hashlib

import numpy as np

from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source, Subset

VALIDATION_SHARE = 0.1


def fraction(text: str, seed: int | str = 0) -> float:
    """A number in [0, 1) that depends on `text` and `seed` alone (sha256, not Python's salted hash)."""
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def in_validation(groups: np.ndarray, seed: int | str = 0, share: float = VALIDATION_SHARE) -> np.ndarray:
    """For each group name, (N,) str, whether it falls into the validation fold: (N,) bool.

    The fold is the `share` of the groups (at least one) whose names hash lowest, so it hardly moves as a set
    grows.
    """
    names, where = np.unique(groups, return_inverse=True)
    ranked = np.argsort([fraction(str(name), seed) for name in names], kind="stable")
    chosen = np.zeros(len(names), bool)
    chosen[ranked[: max(1, round(share * len(names)))]] = True
    return chosen[where]


def novel(source: Source, part: Source) -> np.ndarray:
    """Which pictures of `part`, of the whole `source`, have a group with no member in another split: (N,) bool."""
    pairs = np.unique(np.stack([source.column("group"), source.column("split")], axis=1), axis=0)
    names, homes = np.unique(pairs[:, 0], return_counts=True)
    return np.isin(part.column("group"), names[homes == 1])


def select(source: Source, spec: str, seed: int = 0, min_mos: float | None = None) -> Source:
    """A part of a source by name, in the source's order.

    `spec`: "all"; a split of the data set ("train", "test", ...); with "/val" a tenth of its groups chosen by
    hash, with "/fit" the rest; with "/novel" those whose group has no member in any other split. `min_mos`
    keeps pictures of at least that mos.

    Raises DataError naming the splits there are, where nothing is left; ValueError for an unknown part.
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
