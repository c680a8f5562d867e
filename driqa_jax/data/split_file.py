"""Splits that can be written beside a result and read back: by stable hash, official, or published.

A `Split` says into which of train, val and test each picture of one data set falls. A rule that can be followed again
(a hash, a subset held out, the set's own split) is kept as the rule; a published list is kept picture by picture.
Either way the sha256 of who is where is kept too, and checked whenever the split is laid upon a source: a set that has
changed is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from driqa_jax.data.apart import require_references_apart
from driqa_jax.data.errors import DataError
from driqa_jax.data.open import EXTRA_COLUMNS, TEXT_COLUMNS, Source
from driqa_jax.data.splits import in_validation
from driqa_jax.io import write_json

FORMAT = "driqa_jax split 1"
PARTS = ("train", "val", "test")
# Rules that others have drawn: what they part is reported, not refused.
OFFICIAL = ("official", "published")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of the data set `data`.

    id: a name for tables, as "koniq10k hash 3". rule: plain values; its `kind` is a key of `_RULES`, or "published".
    counts: pictures by part. sha256: of the membership. images: the pictures' ids by part, where no rule gives them.
    """

    id: str
    data: str
    rule: Mapping[str, Any]
    counts: Mapping[str, int]
    sha256: str
    images: Mapping[str, tuple[str, ...]] | None = None

    @property
    def official(self) -> bool:
        """Whether others have drawn it."""
        return self.rule["kind"] in OFFICIAL

    def assigned(self, source: Source) -> Source:
        """The source with this split in its column `split` ("" for a picture that it leaves out).

        Raises DataError for another data set, one that has changed, or a reference that is parted (it is named).
        """
        if source.name != self.data:
            raise DataError(self.id, None, f"this split is one of {self.data}, not of {source.name}")
        parts = self._follow(source)
        if _sha256(source.column("image_id"), parts) != self.sha256:
            raise DataError(
                self.id, None, f"{source.name} is no longer what this split was drawn from: other pictures or groups"
            )
        assigned = Assigned(source, parts)
        require_references_apart(assigned)
        return assigned

    def _follow(self, source: Source) -> np.ndarray:
        if self.images is not None:
            part_of = {image: part for part, images in self.images.items() for image in images}
            return np.array([part_of.get(image, "") for image in source.column("image_id").tolist()])
        return _RULES[self.rule["kind"]](source, self.rule)

    def save(self, path: str | os.PathLike) -> None:
        """Write it as JSON, whole or not at all. Raises UserError where it cannot be written."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        write_json(path, values)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Split:
        """Read what `save` wrote. Raises DataError naming the file, and the line where it is no JSON."""
        try:
            values = json.loads(pathlib.Path(path).read_text())
        except OSError as error:
            raise DataError(
                path, None, f"cannot be read ({error.strerror}); write one with `driqa data split`"
            ) from None
        except ValueError as error:
            raise DataError(path, getattr(error, "lineno", None), "is not a split file (no JSON)") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise DataError(path, None, f"is not a split file: its format is not {FORMAT!r}")
        images = values.pop("images")
        return cls(**values, images=images and {part: tuple(names) for part, names in images.items()})


class Assigned(Source):
    """A source whose pictures stand in other splits: `parts` (N,) str."""

    def __init__(self, source: Source, parts: np.ndarray):
        self._source = source
        columns = {key: source.column(key) for key in (*TEXT_COLUMNS, *EXTRA_COLUMNS)}
        super().__init__(source.name, source.column("mos"), **{**columns, "split": parts})
        self.label_files, self.labels_from = source.label_files, source.labels_from

    def encoded(self, i: int) -> bytes:
        return self._source.encoded(i)


def hash_split(source: Source, number: int, test: float = 0.2, val: float = 0.1, of: str = "") -> Split:
    """Split `number` (0, 1, ...) of the source by stable hash: the same in every process, for ever.

    A `test` share of the groups (references; near neighbours; else single pictures) is test, a `val` share of the
    others val. A picture goes with its group, so none is parted. `of`: one of the set's own splits, within which this
    one is drawn; all other pictures are left out, so that an official test part stays unseen.

    Raises DataError where the set has no split `of`.
    """
    rule = {"kind": "hash", "number": number, "by": "group", "test": test, "val": val, **({"of": of} if of else {})}
    said = f"{source.name} {of} hash {number}" if of else f"{source.name} hash {number}"
    return _made(source, said, rule, _by_hash(source, rule))


def subset_split(source: Source, subset: str, val: float = 0.1, of: str = "") -> Split:
    """The split that holds out one subset: all of it is test, and a `val` share of the other groups val.

    A group that reaches into the subset is left out of the rest. `of`: as in `hash_split`.

    Raises DataError where the set, or its part `of`, has no such subset, or no other.
    """
    rule = {"kind": "subset", "subset": subset, "by": "group", "val": val, **({"of": of} if of else {})}
    said = f"{source.name} {of} without {subset}" if of else f"{source.name} without {subset}"
    return _made(source, said, rule, _by_subset(source, rule))


def official_split(source: Source) -> Split:
    """The split that comes with the set. Raises DataError where it has none."""
    if len(set(source.column("split"))) < 2:
        raise DataError(source.name, None, "comes with no official split; draw one by hash")
    rule = {"kind": "official"}
    return _made(source, f"{source.name} official", rule, _by_column(source, rule))


def listed_split(source: Source, name: str, rule: Mapping[str, Any], parts: np.ndarray) -> Split:
    """A split that is a list: `parts` (N,) str, "" for a picture that is left out."""
    ids = source.column("image_id")
    images = {part: tuple(ids[parts == part].tolist()) for part in PARTS if (parts == part).any()}
    return dataclasses.replace(_made(source, name, rule, parts), images=images)


def _made(source, name, rule, parts):
    require_references_apart(Assigned(source, parts))
    found, counts = np.unique(parts[parts != ""], return_counts=True)
    numbers = dict(zip(found.tolist(), counts.tolist(), strict=True))
    ordered = {part: numbers[part] for part in (*PARTS, *sorted(set(numbers) - set(PARTS))) if part in numbers}
    return Split(name, source.name, dict(rule), ordered, _sha256(source.column("image_id"), parts))


def _by_hash(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    inside = np.flatnonzero(_inside(source, rule))
    test = in_validation(source.column("group")[inside], f"split {rule['number']}", rule["test"])
    return _parted(source, rule, inside[test], inside[~test], f"split {rule['number']} val")


def _by_subset(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    inside, subset, group = _inside(source, rule), source.column("subset"), source.column("group")
    test = inside & (subset == rule["subset"])
    rest = inside & ~test & ~np.isin(group, group[test])
    if not test.any() or not rest.any():
        known = ", ".join(sorted(set(subset[inside].tolist()) - {""})) or "none"
        raise DataError(source.name, None, f"has no subset {rule['subset']!r} beside others; its own are {known}")
    return _parted(source, rule, np.flatnonzero(test), np.flatnonzero(rest), f"without {rule['subset']} val")


def _inside(source, rule):
    """Which pictures the rule speaks of: (N,) bool."""
    of, splits = rule.get("of", ""), source.column("split")
    inside = splits == of if of else np.ones(len(splits), bool)
    if not inside.any():
        known = ", ".join(sorted(set(splits.tolist())))
        raise DataError(source.name, None, f"has no split {of!r}; its own are {known}")
    return inside


def _parted(source, rule, test, rest, seed):
    """Test and the rest, of which the rule's share of groups is val; "" all others."""
    parts = np.full(len(source), "", "<U5")
    parts[test], parts[rest] = "test", "train"
    if rule["val"]:
        # Under a name of its own, or the validation were the groups that test missed narrowly.
        parts[rest[in_validation(source.column("group")[rest], seed, rule["val"])]] = "val"
    return parts


def _by_column(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    del rule
    return source.column("split")


_RULES: Mapping[str, Callable[[Source, Mapping[str, Any]], np.ndarray]] = {
    "hash": _by_hash,
    "subset": _by_subset,
    "official": _by_column,
}


def _sha256(ids: np.ndarray, parts: np.ndarray) -> str:
    lines = sorted(f"{image}\t{part}\n" for image, part in zip(ids.tolist(), parts.tolist(), strict=True) if part)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
