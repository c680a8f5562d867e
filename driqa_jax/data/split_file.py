"""Splits that can be saved beside a result and read back: by stable hash, official, or published.

A `Split` assigns each image of one data set to train, val or test. A reproducible rule (a hash, a held-out subset, the
set's own split) is stored as the rule, a published list as image ids. The sha256 of the membership is stored too and
checked whenever the split is applied, so a changed data set is refused.

Published splits are ARNIQA's `.npy` files of row numbers and LIQE's text files of names.
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

from driqa_jax.data.source import EXTRA_COLUMNS, TEXT_COLUMNS, Source
from driqa_jax.data.splits import in_validation, require_separate_references
from driqa_jax.errors import DataError
from driqa_jax.io import write_json

FORMAT = "driqa_jax split 1"
PARTS = ("train", "val", "test")
OFFICIAL = ("official", "published")  # drawn by others, so shared near duplicates are reported, not refused


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of the data set `data`.

    id: a name for tables, such as "koniq10k hash 3". rule: plain values; `kind` is a key of `_RULES` or "published".
    counts: images by part. sha256: of the membership. images: the image ids by part, if no rule gives them.
    """

    id: str
    data: str
    rule: Mapping[str, Any]
    counts: Mapping[str, int]
    sha256: str
    images: Mapping[str, tuple[str, ...]] | None = None

    @property
    def official(self) -> bool:
        """Whether the split was drawn by others."""
        return self.rule["kind"] in OFFICIAL

    def assigned(self, source: Source) -> Source:
        """The source with this split in its column `split` ("" for an image outside all parts).

        Raises DataError for another or a changed data set, or a reference with images in two parts.
        """
        if source.name != self.data:
            raise DataError(self.id, None, f"this split belongs to {self.data}, not to {source.name}")
        parts = self._follow(source)
        if _membership_sha256(source.column("image_id"), parts) != self.sha256:
            raise DataError(
                self.id, None, f"{source.name} has changed since this split was drawn: its images or groups differ"
            )
        assigned = Assigned(source, parts)
        require_separate_references(assigned)
        return assigned

    def _follow(self, source: Source) -> np.ndarray:
        if self.images is not None:
            part_of = {image: part for part, images in self.images.items() for image in images}
            return np.array([part_of.get(image, "") for image in source.column("image_id").tolist()])
        return _RULES[self.rule["kind"]](source, self.rule)

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as JSON, atomically. Raises UserError if it cannot be written."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        write_json(path, values)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Split:
        """Read a file that `save` wrote. Raises DataError with the file, and the line of invalid JSON."""
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
    """A source with another `split` column: `parts` (N,) str."""

    def __init__(self, source: Source, parts: np.ndarray):
        self._source = source
        columns = {key: source.column(key) for key in (*TEXT_COLUMNS, *EXTRA_COLUMNS)}
        super().__init__(source.name, source.column("mos"), **{**columns, "split": parts})
        self.label_files, self.labels_from = source.label_files, source.labels_from

    def encoded(self, i: int) -> bytes:
        return self._source.encoded(i)


def hash_split(source: Source, number: int, test: float = 0.2, val: float = 0.1, of: str = "") -> Split:
    """Split `number` (0, 1, ...) of the source by stable hash, the same in every process.

    A `test` share of the groups (references, near duplicates, else single images) is test, a `val` share of the other
    groups val. `of`: draw within this split of the set and leave out all other images, so that an official test part
    stays unseen.

    Raises DataError if the set has no split `of`.
    """
    rule = {"kind": "hash", "number": number, "by": "group", "test": test, "val": val, **({"of": of} if of else {})}
    name = f"{source.name} {of} hash {number}" if of else f"{source.name} hash {number}"
    return _made(source, name, rule, _by_hash(source, rule))


def subset_split(source: Source, subset: str, val: float = 0.1, of: str = "") -> Split:
    """The split that holds out one subset as test; a `val` share of the other groups is val.

    A group with members in the subset is left out of train and val. `of`: as in `hash_split`.

    Raises DataError if the set, or its part `of`, lacks this subset or has no other.
    """
    rule = {"kind": "subset", "subset": subset, "by": "group", "val": val, **({"of": of} if of else {})}
    name = f"{source.name} {of} without {subset}" if of else f"{source.name} without {subset}"
    return _made(source, name, rule, _by_subset(source, rule))


def official_split(source: Source) -> Split:
    """The split that comes with the set. Raises DataError if it has none."""
    if len(set(source.column("split"))) < 2:
        raise DataError(source.name, None, "has no official split; draw one by hash")
    rule = {"kind": "official"}
    return _made(source, f"{source.name} official", rule, _by_column(source, rule))


def listed_split(source: Source, name: str, rule: Mapping[str, Any], parts: np.ndarray) -> Split:
    """A split given as a list: `parts` (N,) str, "" for an image outside all parts."""
    ids = source.column("image_id")
    images = {part: tuple(ids[parts == part].tolist()) for part in PARTS if (parts == part).any()}
    return dataclasses.replace(_made(source, name, rule, parts), images=images)


def _made(source, name, rule, parts):
    require_separate_references(Assigned(source, parts))
    names, counts = np.unique(parts[parts != ""], return_counts=True)
    numbers = dict(zip(names.tolist(), counts.tolist(), strict=True))
    ordered = {part: numbers[part] for part in (*PARTS, *sorted(set(numbers) - set(PARTS))) if part in numbers}
    return Split(name, source.name, dict(rule), ordered, _membership_sha256(source.column("image_id"), parts))


def _by_hash(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    inside = np.flatnonzero(_inside(source, rule))
    test = in_validation(source.column("group")[inside], f"split {rule['number']}", rule["test"])
    return _assemble(source, rule, inside[test], inside[~test], f"split {rule['number']} val")


def _by_subset(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    inside, subset, group = _inside(source, rule), source.column("subset"), source.column("group")
    test = inside & (subset == rule["subset"])
    rest = inside & ~test & ~np.isin(group, group[test])
    if not test.any() or not rest.any():
        known = ", ".join(sorted(set(subset[inside].tolist()) - {""})) or "none"
        raise DataError(
            source.name, None, f"has no subset {rule['subset']!r} or no other subset; its subsets are {known}"
        )
    return _assemble(source, rule, np.flatnonzero(test), np.flatnonzero(rest), f"without {rule['subset']} val")


def _inside(source, rule):
    """Which images the rule covers: (N,) bool."""
    of, splits = rule.get("of", ""), source.column("split")
    inside = splits == of if of else np.ones(len(splits), bool)
    if not inside.any():
        known = ", ".join(sorted(set(splits.tolist())))
        raise DataError(source.name, None, f"has no split {of!r}; its splits are {known}")
    return inside


def _assemble(source, rule, test, rest, seed):
    """Parts (N,) str: `test`, and `rest` divided by group into train and the rule's share of val; "" elsewhere."""
    parts = np.full(len(source), "", "<U5")
    parts[test], parts[rest] = "test", "train"
    if rule["val"]:
        # A separate seed: with that of test, val would be the groups that just missed test.
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


def _membership_sha256(ids: np.ndarray, parts: np.ndarray) -> str:
    lines = sorted(f"{image}\t{part}\n" for image, part in zip(ids.tolist(), parts.tolist(), strict=True) if part)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def published_split(folder: pathlib.Path, source: Source, number: int = 0) -> Split:
    """The published split in a folder, applied to a source.

    ARNIQA: `train.npy`, `val.npy`, `test.npy`; row `number` lists rows of the authors' list, padded with -1 (a vector
    is a single split). LIQE: `*_train*.txt`, `*_val*.txt`, `*_test*.txt` with one image per line, its name first.
    Unlisted images belong to no part.

    Raises DataError with the file (and line) for a folder with neither format, an unknown row or name, an image in two
    parts, or a reference with images in two parts.
    """
    if (folder / "train.npy").is_file():
        return _arniqa(folder, source, number)
    files = {part: sorted(folder.glob(f"*_{part}*.txt")) for part in PARTS}
    if all(len(matches) == 1 for matches in files.values()):
        return _liqe({part: matches[0] for part, matches in files.items()}, source)
    raise DataError(
        folder, None, "contains no published split; expected train.npy or *_train*.txt, and the same for val and test"
    )


def _arniqa(folder: pathlib.Path, source: Source, number: int) -> Split:
    place = {row: i for i, row in enumerate(source.column("row").tolist())}
    if -1 in place:
        raise DataError(source.name, None, "has no row numbers of the authors' list; prepare it again")
    parts, files = np.full(len(source), "", dtype="<U5"), {}
    for part in PARTS:
        file = folder / f"{part}.npy"
        table = _load(file)
        if table.ndim == 2 and not 0 <= number < len(table):
            raise DataError(file, None, f"has the splits 0 to {len(table) - 1}, not {number}")
        for row in (table[number] if table.ndim == 2 else table).tolist():
            if row == -1:
                continue
            if row not in place:
                raise DataError(file, None, f"names row {row}, and {source.name} has {len(source)}")
            _put(parts, place[row], part, file, None, source)
        files[file.name] = _file_sha256(file)
    rule = {"kind": "published", "by": "ARNIQA", "number": number, "files": files}
    return listed_split(source, f"{source.name} ARNIQA {number}", rule, parts)


def _liqe(files: dict[str, pathlib.Path], source: Source) -> Split:
    rows = {name.lower(): row for row, name in enumerate(source.column("image_id").tolist())}
    parts = np.full(len(source), "", dtype="<U5")
    for part, file in files.items():
        for line, text in enumerate(file.read_text().splitlines(), start=1):
            if not text.strip():
                continue
            path = text.split("\t")[0].strip().lower().split("/")
            matches = [rows[tail] for k in range(len(path)) if (tail := "/".join(path[k:])) in rows]
            if not matches:
                raise DataError(file, line, f"{source.name} has no picture {text.split(chr(9))[0]!r}")
            _put(parts, matches[0], part, file, line, source)
    number = files["train"].parent.name
    rule = {
        "kind": "published",
        "by": "LIQE",
        "number": number,
        "files": {f.name: _file_sha256(f) for f in files.values()},
    }
    return listed_split(source, f"{source.name} LIQE {number}", rule, parts)


def _put(parts, row, part, file, line, source):
    if parts[row]:
        raise DataError(file, line, f"{str(source.column('image_id')[row])!r} is already in {parts[row]}")
    parts[row] = part


def _load(file: pathlib.Path) -> np.ndarray:
    try:
        table = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(file, None, f"cannot be read as .npy ({error})") from None
    if table.ndim not in (1, 2) or not np.issubdtype(table.dtype, np.integer):
        raise DataError(file, None, f"holds {table.dtype} {table.shape}, not row numbers (splits, pictures)")
    return table


def _file_sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
