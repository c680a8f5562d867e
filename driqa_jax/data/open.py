"""Sources of pictures: random access to encoded bytes with their scores.

A source has `name`, `len(source)`, `source[i]` and `source.column(key)`. An example is a dict:
`image` bytes (an encoded file), `mos` float in [0, 1], higher is better (nan: no score), `percentile` float
in [0, 1] (mid-rank of `mos` within the source), `image_id`, `group` (pictures of one group never part in a
split), `subset`, `split` and `dataset`, all str; `reference` and `degradation` (str, "" where there is none or it is
not known), `level` (int as the authors count, 0 where not known), `row` (int, place in the authors' list).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.stats import rankdata

from driqa_jax.data.errors import DataError, UnreadableImage, reason
from driqa_jax.data.option_names import Spelling, in_python

TEXT_COLUMNS = ("image_id", "group", "subset", "split", "dataset")
# What some sets know besides; elsewhere this.
EXTRA_COLUMNS = {"reference": "", "degradation": "", "level": 0, "row": -1}


class Source:
    """A table of columns, and encoded pictures by row. A kind of source overrides `encoded`.

    `label_files`: sha256 of the files that its scores came from, by name, where they are known. `labels_from`: which
    column of a table they are, their range and direction, in words ("": they come from no table).
    """

    label_files: Mapping[str, str] = MappingProxyType({})
    labels_from: str = ""

    def __init__(self, name: str, mos: Sequence[float], **columns: Sequence[str] | Sequence[int]):
        self.name = name
        scores = np.asarray(mos, np.float64)
        if np.any((scores < 0) | (scores > 1)):
            raise ValueError(f"{name}: mos must lie in [0, 1]")
        self._columns = {"mos": scores, "percentile": mid_rank(scores)}
        for key in TEXT_COLUMNS:
            values = np.asarray(columns[key], dtype=np.str_)
            if values.shape != scores.shape:
                raise ValueError(f"{name}: column {key} has shape {values.shape}, mos {scores.shape}")
            self._columns[key] = values
        for key, absent in EXTRA_COLUMNS.items():
            values = np.asarray(columns.get(key, [absent] * len(scores)), np.asarray(absent).dtype.type)
            if values.shape != scores.shape:
                raise ValueError(f"{name}: column {key} has shape {values.shape}, mos {scores.shape}")
            self._columns[key] = values

    def __len__(self) -> int:
        return len(self._columns["mos"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} pictures)"

    def __getitem__(self, i: int) -> dict:
        i = range(len(self))[i]
        example = {key: column[i].item() for key, column in self._columns.items()}
        return {"image": self.encoded(i), **example}

    def column(self, key: str) -> np.ndarray:
        """All values of one column, (N,), without touching a picture. Raises KeyError naming the columns."""
        if key not in self._columns:
            raise KeyError(f"{self.name} has no column {key!r}; it has {', '.join(self._columns)}")
        return self._columns[key]

    def encoded(self, i: int) -> bytes:
        """The bytes of picture `i` as its file holds them."""
        raise NotImplementedError

    def read(self, i: int) -> bytes:
        """As `encoded`; raises UnreadableImage, naming the picture, where that fails."""
        try:
            return self.encoded(i)
        except Exception as error:
            raise UnreadableImage(self.said(i), reason(error)) from error

    def said(self, i: int) -> str:
        """What messages call picture `i`."""
        return f"{self.column('dataset')[i]}: {self.column('image_id')[i]}"

    def pictures(self) -> Iterator[bytes | UnreadableImage]:
        """The bytes of every picture, or why it cannot be read, as `Scorer.stream` takes them."""
        for i in range(len(self)):
            try:
                yield self.read(i)
            except UnreadableImage as error:
                yield error


class Subset(Source):
    """Some rows of a source, in the order given; percentiles are taken anew within them."""

    def __init__(self, source: Source, rows: Sequence[int], name: str):
        self._source, self._rows = source, np.asarray(rows, np.int64)
        columns = {key: source.column(key)[self._rows] for key in (*TEXT_COLUMNS, *EXTRA_COLUMNS)}
        super().__init__(name, source.column("mos")[self._rows], **columns)
        self.label_files, self.labels_from = source.label_files, source.labels_from

    def encoded(self, i: int) -> bytes:
        return self._source.encoded(int(self._rows[i]))


class Joined(Source):
    """Several sources one after another; each keeps its own percentiles and dataset names."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        keys = ("mos", *TEXT_COLUMNS, *EXTRA_COLUMNS)
        columns = {key: np.concatenate([s.column(key) for s in sources]) for key in keys}
        super().__init__("+".join(source.name for source in sources), **columns)
        self._columns["percentile"] = np.concatenate([s.column("percentile") for s in sources])
        self.label_files = {f"{s.name}/{name}": sha for s in sources for name, sha in s.label_files.items()}

    def encoded(self, i: int) -> bytes:
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._sources[which].encoded(i - int(self._starts[which]))


def mid_rank(scores: np.ndarray) -> np.ndarray:
    """Rank of each score among all, (N,) float in [0, 1], ties sharing their mean rank; nan stays nan."""
    known = np.isfinite(scores)
    ranks = np.full(scores.shape, np.nan)
    if known.any():
        ranks[known] = (rankdata(scores[known]) - 0.5) / known.sum()
    return ranks


def open_source(kind: str, path: str | None = None, name: str | None = None, **options) -> Source:
    """The source of one kind, for configurations and commands.

    `tfds`: `path` is the folder that `driqa data prepare NAME` wrote, `name` the set ("biq2021"). `folder`:
    `path` is a CSV file, or the folder that holds it (options: those of `FolderSource`).
    `photos`: `path` is a folder of photographs without scores. `fake`: generated pictures (options: `count`,
    `size`, `seed`), always named fake.

    Raises ValueError for an unknown kind or a missing path, DataError for what is wrong with the data.
    """
    from driqa_jax.data import csv_source, photos, synthetic, tfds_source

    if kind == "fake":
        return synthetic.FakeSource(**options)
    kinds: Mapping = {
        "folder": csv_source.FolderSource,
        "photos": photos.PhotosSource,
        "tfds": tfds_source.RecordsSource,
    }
    if kind not in kinds:
        raise ValueError(f"unknown kind of source {kind!r}; the kinds are tfds, folder, photos, fake")
    if not path:
        raise ValueError(f"a source of kind {kind!r} needs a path")
    if kind == "tfds":
        if not name:
            raise ValueError("a source of kind 'tfds' needs a name, for example biq2021")
        return kinds[kind](name, path, **options)
    return kinds[kind](path, **({"name": name} if name else {}), **options)


LABEL_OPTIONS = ("images", "score_column", "split_column")  # of a folder, in a configuration's `data`


def open_configured(data, option: Spelling = in_python) -> Source:
    """The source that a configuration's `data` means: kind, path, name, mos_range, fake_count and LABEL_OPTIONS.

    `option` spells these in errors. Raises as above.
    """
    options = {}
    if data.kind == "fake":
        options["count"] = data.fake_count
    if data.kind == "folder":
        options = {name: data.get(name) or None for name in LABEL_OPTIONS} | {"option": option}
        options["mos_range"] = tuple(data.mos_range) or None
    return open_source(data.kind, data.path or None, data.name or None, **options)


def labels_sha256(part: Source) -> str:
    """sha256 of the pictures' names and scores as they are compared."""
    rows = zip(part.column("image_id").tolist(), part.column("mos").tolist(), strict=True)
    return hashlib.sha256("".join(f"{name},{mos!r}\n" for name, mos in rows).encode()).hexdigest()


def require_pictures(source: Source, where: str) -> Source:
    """The same source; raises DataError where it is empty."""
    if len(source) == 0:
        raise DataError(where, None, "holds no picture")
    return source
