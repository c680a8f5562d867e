"""What the builders share: a rating, a set's layout, and pictures found whatever the case of their names."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from driqa_jax.data.errors import DataError


class Rating(NamedTuple):
    """One rated picture, as its authors' label file says it.

    image_id: its name in results and splits, the same in every copy of the set. path: where its file lies, below
    the set's folder or below one of `Layout.images`. raw: the authors' score. std: the standard deviation of the
    votes as they print it (nan: none). reference, degradation: "" and level: 0 where there is none or it is not
    known. file, line: where the score stands (no line in a .mat file).
    """

    image_id: str
    path: str
    raw: float
    file: pathlib.Path
    line: int | None = None
    std: float = math.nan
    reference: str = ""
    degradation: str = ""
    level: int = 0
    subset: str = ""
    split: str = "train"


@dataclasses.dataclass(frozen=True)
class Layout:
    """A data set as its authors distribute it.

    title, homepage, citation: for people. scores: what they are, in words. scale: the raw score that becomes 0 and
    the one that becomes 1, linearly; what lies beyond is clipped. limits: the lowest and highest raw score that can
    be; another one means another label file. images: the folders of pictures. labels: the label files (or a folder
    of them); a tuple among them stands for alternatives, the preferred first. counts: the ratings that the authors
    give, by official split; "train" alone where there is none. read: from the set's folder to its ratings in the
    authors' order, raising DataError. top: the folder that an archive unpacks to. split_optional: a label
    file without the official split will do; all is "train" then. releases: versions of the prepared set, oldest
    first, each with what it changed.
    """

    title: str
    homepage: str
    citation: str
    scores: str
    scale: tuple[float, float]
    limits: tuple[float, float]
    images: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]
    counts: Mapping[str, int]
    read: Callable[[pathlib.Path], Iterator[Rating]]
    top: str = ""
    split_optional: bool = False
    releases: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"1.0.0": "First."})

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """Where the label files lie: `folder`, or the folder `top` in it where that holds them."""
        inside = folder / self.top
        here = any((folder / name).exists() for name in self.label_names())
        return inside if self.top and inside.is_dir() and not here else folder

    def require_something(self, folder: pathlib.Path) -> None:
        """Raises DataError where not one folder of pictures or label file of the set is there."""
        parts = (*self.images, *self.label_names())
        if not any((self.root(folder) / part).exists() for part in parts):
            expected = ", ".join(map(repr, parts))
            raise DataError(folder, None, f"nothing of {self.title} is here; expected {expected}")

    def label_names(self) -> list[str]:
        """The names of all label files, alternatives too."""
        return [name for entry in self.labels for name in ([entry] if isinstance(entry, str) else entry)]

    def label_sha256(self, root: pathlib.Path) -> dict[str, str]:
        """sha256 of each label file that is read, by name; of a folder, over those of its files in order of name."""
        names = [
            entry if isinstance(entry, str) else next((n for n in entry if (root / n).exists()), entry[0])
            for entry in self.labels
        ]
        return {name: _sha256(root / name) for name in names}

    def unit(self, raw: float) -> float:
        """A raw score as MOS in [0, 1], higher is better."""
        worst, best = self.scale
        return min(max((raw - worst) / (best - worst), 0.0), 1.0)

    def ratings(self, root: pathlib.Path) -> Iterator[Rating]:
        """The set's ratings in the authors' order.

        Raises DataError, naming file and line, at the first defect: a label file that is absent or of another
        layout, a score outside `limits`, a picture rated twice.
        """
        lowest, highest = self.limits
        seen: dict[str, Rating] = {}
        for rating in self.read(root):
            if not lowest <= rating.raw <= highest:  # nan too
                raise DataError(
                    rating.file,
                    rating.line,
                    f"the score {rating.raw:g} of {rating.image_id!r} is not in [{lowest:g}, {highest:g}], where "
                    f"{self.title} has {self.scores}: is this its own label file?",
                )
            before = seen.setdefault(rating.image_id.lower(), rating)
            if before is not rating:
                where = before.file.name if before.line is None else f"{before.file.name}, line {before.line}"
                raise DataError(rating.file, rating.line, f"{rating.image_id!r} stands already in {where}")
            yield rating

    def expected(self, splits: set[str]) -> dict[str, int]:
        """The numbers of ratings that should be there, where these splits were found."""
        if self.split_optional and splits == {"train"}:
            return {"train": sum(self.counts.values())}
        return dict(self.counts)


class Pictures:
    """The files below a set's folder by their names in the labels, whatever the case; the exact name wins."""

    def __init__(self, layout: Layout, root: pathlib.Path):
        self._tops = [root, *(root / folder for folder in (*layout.images, *([layout.top] if layout.top else [])))]
        self._listings: dict[pathlib.Path, tuple[dict, dict]] = {}

    def find(self, rating: Rating) -> pathlib.Path | None:
        """The picture's file, None where it is absent."""
        return next((file for top in self._tops if (file := self._below(top, rating.path))), None)

    def _below(self, here: pathlib.Path, path: str) -> pathlib.Path | None:
        for name in path.split("/"):
            exact, lower = self._listing(here)
            here = exact.get(name) or lower.get(name.lower())
            if here is None:
                return None
        return here

    def _listing(self, folder: pathlib.Path) -> tuple[dict[str, pathlib.Path], dict[str, pathlib.Path]]:
        if folder not in self._listings:
            exact = {file.name: file for file in sorted(folder.iterdir())} if folder.is_dir() else {}
            self._listings[folder] = exact, {name.lower(): file for name, file in exact.items()}
        return self._listings[folder]


def number(file: pathlib.Path, line: int | None, text: str, of: str) -> float:
    """The number that a cell holds. Raises DataError where it holds none."""
    try:
        return float(text)
    except ValueError:
        raise DataError(file, line, f"the score {text!r} of {of!r} is not a number") from None


def require_file(file: pathlib.Path, title: str) -> pathlib.Path:
    """The file itself. Raises DataError where it is not there."""
    if not file.is_file():
        raise DataError(file, None, f"no such file; it comes with {title}")
    return file


def _sha256(path: pathlib.Path) -> str:
    if path.is_dir():
        parts = [_sha256(file) for file in sorted(path.iterdir()) if file.is_file()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
