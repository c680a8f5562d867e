"""Published splits, read as they are: ARNIQA's `.npy` files of row numbers, LIQE's text files of names."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np

from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source
from driqa_jax.data.split_file import PARTS, Split, listed_split


def published_split(folder: pathlib.Path, source: Source, number: int = 0) -> Split:
    """The split that a folder holds, laid upon a source.

    ARNIQA: `train.npy`, `val.npy`, `test.npy`, whose row `number` holds rows of the authors' list (-1 fills up; a
    vector is the only split). LIQE: `*_train*.txt`, `*_val*.txt`, `*_test*.txt`, a picture a line, its name first.
    Pictures that a list leaves out belong to no part.

    Raises DataError, naming the file (and line): a folder that holds neither, a row or a name that the set does not
    have, a picture in two parts, a reference that is parted.
    """
    if (folder / "train.npy").is_file():
        return _arniqa(folder, source, number)
    files = {part: sorted(folder.glob(f"*_{part}*.txt")) for part in PARTS}
    if all(len(found) == 1 for found in files.values()):
        return _liqe({part: found[0] for part, found in files.items()}, source)
    raise DataError(
        folder, None, "holds no published split: expected train.npy or *_train*.txt, and val and test alike"
    )


def _arniqa(folder: pathlib.Path, source: Source, number: int) -> Split:
    place = {row: i for i, row in enumerate(source.column("row").tolist())}
    if -1 in place:
        raise DataError(source.name, None, "its pictures' rows in the authors' list are not known; prepare it again")
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
        files[file.name] = _sha256(file)
    rule = {"kind": "published", "by": "ARNIQA", "number": number, "files": files}
    return listed_split(source, f"{source.name} ARNIQA {number}", rule, parts)


def _liqe(files: dict[str, pathlib.Path], source: Source) -> Split:
    rows: dict[str, int] = {}
    for row, name in enumerate(source.column("image_id").tolist()):
        rows[name.lower()] = row
    parts = np.full(len(source), "", dtype="<U5")
    for part, file in files.items():
        for line, text in enumerate(file.read_text().splitlines(), start=1):
            if not text.strip():
                continue
            path = text.split("\t")[0].strip().lower().split("/")
            found = [rows[tail] for k in range(len(path)) if (tail := "/".join(path[k:])) in rows]
            if not found:
                raise DataError(file, line, f"{source.name} has no picture {text.split(chr(9))[0]!r}")
            _put(parts, found[0], part, file, line, source)
    number = files["train"].parent.name
    rule = {"kind": "published", "by": "LIQE", "number": number, "files": {f.name: _sha256(f) for f in files.values()}}
    return listed_split(source, f"{source.name} LIQE {number}", rule, parts)


def _put(parts, row, part, file, line, source):
    if parts[row]:
        raise DataError(file, line, f"{str(source.column('image_id')[row])!r} stands in {parts[row]} already")
    parts[row] = part


def _load(file: pathlib.Path) -> np.ndarray:
    try:
        table = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(file, None, f"cannot be read as .npy ({error})") from None
    if table.ndim not in (1, 2) or not np.issubdtype(table.dtype, np.integer):
        raise DataError(file, None, f"holds {table.dtype} {table.shape}, not row numbers (splits, pictures)")
    return table


def _sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
