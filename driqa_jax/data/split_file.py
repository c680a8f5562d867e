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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from driqa_jax.data.source import Source, Subset
from driqa_jax.data.splits import in_validation, require_separate_references
from driqa_jax.errors import DataError
from driqa_jax.io import file_sha256, write_json

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
            message = f"{source.name} has changed since this split was drawn: its images or groups differ"
            raise DataError(self.id, None, message)
        require_separate_references(source, parts)
        return Subset(source, range(len(source)), source.name, split=parts)

    def _follow(self, source: Source) -> np.ndarray:
        if self.images is None:
            return _RULES[self.rule["kind"]](source, self.rule)
        part_of = {image: part for part, images in self.images.items() for image in images}
        return np.array([part_of.get(image, "") for image in source.column("image_id").tolist()])

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as JSON, atomically. Raises UserError if it cannot be written."""
        write_json(path, {"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Split:
        """Read a file that `save` wrote. Raises DataError with the file, and the line of invalid JSON."""
        try:
            values = json.loads(pathlib.Path(path).read_text())
        except OSError as error:
            message = f"cannot be read ({error.strerror}); write one with `driqa data split`"
            raise DataError(path, None, message) from None
        except ValueError as error:
            raise DataError(path, getattr(error, "lineno", None), "is not a split file (no JSON)") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise DataError(path, None, f"is not a split file: its format is not {FORMAT!r}")
        images = values.pop("images")
        return cls(**values, images=images and {part: tuple(names) for part, names in images.items()})


def hash_split(source: Source, number: int, test: float = 0.2, val: float = 0.1, of: str = "") -> Split:
    """Split `number` (0, 1, ...) of the source by stable hash, the same in every process.

    A `test` share of the groups (references, near duplicates, else single images) is test, a `val` share of the other
    groups val. `of`: draw within this split of the set and leave out all other images, so that an official test part
    stays unseen.

    Raises DataError if the set has no split `of`.
    """
    rule = {"kind": "hash", "number": number, "by": "group", "test": test, "val": val}
    return _by_rule(source, f"hash {number}", rule, of)


def subset_split(source: Source, subset: str, val: float = 0.1, of: str = "") -> Split:
    """The split that holds out one subset as test; a `val` share of the other groups is val.

    A group with members in the subset is left out of train and val. `of`: as in `hash_split`.

    Raises DataError if the set, or its part `of`, lacks this subset or has no other.
    """
    rule = {"kind": "subset", "subset": subset, "by": "group", "val": val}
    return _by_rule(source, f"without {subset}", rule, of)


def official_split(source: Source) -> Split:
    """The split that comes with the set. Raises DataError if it has none."""
    if len(set(source.column("split"))) < 2:
        raise DataError(source.name, None, "has no official split; draw one by hash")
    return _by_rule(source, "official", {"kind": "official"})


def listed_split(source: Source, name: str, rule: Mapping[str, Any], parts: np.ndarray) -> Split:
    """A split given as a list: `parts` (N,) str, "" for an image outside all parts."""
    ids = source.column("image_id")
    images = {part: tuple(ids[parts == part].tolist()) for part in PARTS if (parts == part).any()}
    return dataclasses.replace(_made(source, name, rule, parts), images=images)


def _by_rule(source: Source, name: str, rule: dict[str, Any], of: str = "") -> Split:
    rule = rule | ({"of": of} if of else {})
    parts = _RULES[rule["kind"]](source, rule)
    return _made(source, f"{source.name} {of} {name}" if of else f"{source.name} {name}", rule, parts)


def _made(source: Source, name: str, rule: Mapping[str, Any], parts: np.ndarray) -> Split:
    require_separate_references(source, parts)
    counts = Counter(parts[parts != ""].tolist())
    ordered = {part: counts[part] for part in (*PARTS, *sorted(counts.keys() - {*PARTS})) if part in counts}
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
        message = f"has no subset {rule['subset']!r} or no other subset; its subsets are {known}"
        raise DataError(source.name, None, message)
    return _assemble(source, rule, np.flatnonzero(test), np.flatnonzero(rest), f"without {rule['subset']} val")


def _inside(source: Source, rule: Mapping[str, Any]) -> np.ndarray:
    """Which images the rule covers: (N,) bool."""
    of, splits = rule.get("of", ""), source.column("split")
    inside = splits == of if of else np.ones(len(splits), bool)
    if not inside.any():
        known = ", ".join(sorted(set(splits.tolist())))
        raise DataError(source.name, None, f"has no split {of!r}; its splits are {known}")
    return inside


def _assemble(source: Source, rule: Mapping[str, Any], test: np.ndarray, rest: np.ndarray, seed: str) -> np.ndarray:
    """Parts (N,) str: `test`, and `rest` divided by group into train and the rule's share of val; "" elsewhere."""
    parts = np.full(len(source), "", "<U5")
    parts[test], parts[rest] = "test", "train"
    if rule["val"]:
        # A separate seed: with that of test, val would be the groups that just missed test.
        parts[rest[in_validation(source.column("group")[rest], seed, rule["val"])]] = "val"
    return parts


_RULES: Mapping[str, Callable[[Source, Mapping[str, Any]], np.ndarray]] = {
    "hash": _by_hash,
    "subset": _by_subset,
    "official": lambda source, rule: source.column("split"),
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
        files = {part: folder / f"{part}.npy" for part in PARTS}
        by, name, rows = "ARNIQA", number, _arniqa_rows(files, source, number)
    else:
        matches = {part: sorted(folder.glob(f"*_{part}*.txt")) for part in PARTS}
        if any(len(found) != 1 for found in matches.values()):
            expected = "train.npy or *_train*.txt, and the same for val and test"
            raise DataError(folder, None, f"contains no published split; expected {expected}")
        files = {part: found[0] for part, found in matches.items()}
        by, name, rows = "LIQE", folder.name, _liqe_rows(files, source)
    parts = np.full(len(source), "", dtype="<U5")
    for part, line, row in rows:
        if parts[row]:
            image = str(source.column("image_id")[row])
            raise DataError(files[part], line, f"{image!r} is already in {parts[row]}")
        parts[row] = part
    hashes = {file.name: file_sha256(file) for file in files.values()}
    rule = {"kind": "published", "by": by, "number": name, "files": hashes}
    return listed_split(source, f"{source.name} {by} {name}", rule, parts)


def _arniqa_rows(files: Mapping[str, pathlib.Path], source: Source, number: int) -> Iterator[tuple[str, None, int]]:
    """Part, no line, and row of the source of each listed image."""
    row_of = {row: i for i, row in enumerate(source.column("row").tolist())}
    if -1 in row_of:
        raise DataError(source.name, None, "has no row numbers of the authors' list; prepare it again")
    for part, file in files.items():
        table = _load(file)
        if table.ndim == 2 and not 0 <= number < len(table):
            raise DataError(file, None, f"has the splits 0 to {len(table) - 1}, not {number}")
        for row in (table[number] if table.ndim == 2 else table).tolist():
            if row != -1 and row not in row_of:
                raise DataError(file, None, f"names row {row}, and {source.name} has {len(source)}")
            if row != -1:
                yield part, None, row_of[row]


def _liqe_rows(files: Mapping[str, pathlib.Path], source: Source) -> Iterator[tuple[str, int, int]]:
    """Part, line, and row of the source of each listed image."""
    row_of = {name.lower(): row for row, name in enumerate(source.column("image_id").tolist())}
    for part, file in files.items():
        for line, text in enumerate(file.read_text().splitlines(), start=1):
            if not text.strip():
                continue
            path = text.split("\t")[0].strip().lower().split("/")
            matches = [row_of[tail] for k in range(len(path)) if (tail := "/".join(path[k:])) in row_of]
            if not matches:
                raise DataError(file, line, f"{source.name} has no picture {text.split(chr(9))[0]!r}")
            yield part, line, matches[0]


def _load(file: pathlib.Path) -> np.ndarray:
    try:
        table = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(file, None, f"cannot be read as .npy ({error})") from None
    if table.ndim not in (1, 2) or not np.issubdtype(table.dtype, np.integer):
        raise DataError(file, None, f"holds {table.dtype} {table.shape}, not row numbers (splits, pictures)")
    return table
