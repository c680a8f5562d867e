"""Sources: tables of labels with random access to encoded images.

A source has `name`, `len(source)`, `source[i]` and `source.column(key)`. An example is a dict: `image` bytes (an
encoded file), `mos` float in [0, 1], higher is better (nan: no score), `percentile` float in [0, 1] (mid-rank of `mos`
within the source); str `image_id`, `group` (a split never separates a group), `subset`, `split`, `dataset`,
`reference` and `degradation` ("" if unknown); int `level` (as the authors count, 0 if unknown) and `row` (position in
the authors' list, -1 if unknown).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from driqa_jax.data.decode import decode
from driqa_jax.errors import UnreadableImage, reason
from driqa_jax.io import image_bytes

TEXT_COLUMNS = ("image_id", "group", "subset", "split", "dataset")
EXTRA_COLUMNS = {"reference": "", "degradation": "", "level": 0, "row": -1}  # optional columns and their defaults


class Source:
    """A table of columns, and encoded images by row. Each kind of source overrides `encoded`.

    `columns`: (N,) each; a single value applies to all images. Of TEXT_COLUMNS, `image_id` and `group` are required; by
    default `subset` is "", `split` "train" and `dataset` the name of the source.

    `label_files`: sha256 of the label files by name, if known. `labels_from`: the score column, its range and
    direction in words ("" if the scores come from no table).
    """

    label_files: Mapping[str, str] = MappingProxyType({})
    labels_from: str = ""

    def __init__(self, name: str, mos: Sequence[float] | np.ndarray, **columns: str | Sequence | np.ndarray):
        self.name = name
        scores = np.asarray(mos, np.float64)
        if np.any((scores < 0) | (scores > 1)):
            raise ValueError(f"{name}: mos must lie in [0, 1]")
        self._columns = {"mos": scores, "percentile": mid_rank(scores)}
        given = {"subset": "", "split": "train", "dataset": name, **EXTRA_COLUMNS, **columns}
        for key in (*TEXT_COLUMNS, *EXTRA_COLUMNS):
            values = np.asarray(given[key], type(EXTRA_COLUMNS.get(key, "")))
            values = np.full(scores.shape, values) if values.ndim == 0 else values
            if values.shape != scores.shape:
                raise ValueError(f"{name}: column {key} has shape {values.shape}, mos {scores.shape}")
            self._columns[key] = values

    def __len__(self) -> int:
        return len(self._columns["mos"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} images)"

    def __getitem__(self, i: int) -> dict:
        i = range(len(self))[i]
        example = {key: column[i].item() for key, column in self._columns.items()}
        return {"image": self.encoded(i), **example}

    def column(self, key: str) -> np.ndarray:
        """All values of one column, (N,), without reading any image. Raises KeyError listing the columns."""
        if key not in self._columns:
            raise KeyError(f"{self.name} has no column {key!r}; it has {', '.join(self._columns)}")
        return self._columns[key]

    def encoded(self, i: int) -> bytes:
        """The encoded file of image `i`."""
        raise NotImplementedError

    def read(self, i: int) -> bytes:
        """Like `encoded`, but every failure raises UnreadableImage with the image's name."""
        try:
            return self.encoded(i)
        except Exception as error:
            raise UnreadableImage(self.label(i), reason(error)) from error

    def label(self, i: int) -> str:
        """The name of image `i` in messages: "dataset: image_id"."""
        return f"{self.column('dataset')[i]}: {self.column('image_id')[i]}"

    def images(self) -> Iterator[bytes | UnreadableImage]:
        """The bytes of every image, or its error: the input of `Scorer.stream`."""
        for i in range(len(self)):
            try:
                yield self.read(i)
            except UnreadableImage as error:
                yield error


class Subset(Source):
    """Selected rows of a source in the given order; percentiles are recomputed within them.

    `replaced`: columns with other values than the source's, (len(rows),).
    """

    def __init__(self, source: Source, rows: Sequence[int] | np.ndarray, name: str, **replaced: Sequence | np.ndarray):
        self._source, self._rows = source, np.asarray(rows, np.int64)
        columns = {key: source.column(key)[self._rows] for key in (*TEXT_COLUMNS, *EXTRA_COLUMNS)}
        super().__init__(name, source.column("mos")[self._rows], **(columns | replaced))
        self.label_files, self.labels_from = source.label_files, source.labels_from

    def encoded(self, i: int) -> bytes:
        return self._source.encoded(int(self._rows[i]))


class Joined(Source):
    """Several sources one after another, by names that become their `dataset`; each keeps its percentiles.

    `weights`: how often each is drawn in training, relative to the others; (): as often as it has images.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Sequence[float] = ()):
        parts = list(sources.values())
        self.lengths, self.weights = [len(part) for part in parts], weights
        self._rows = [(part, row) for part in parts for row in range(len(part))]
        keys = ("mos", *TEXT_COLUMNS, *EXTRA_COLUMNS, "percentile")
        *columns, percentile = (np.concatenate([part.column(key) for part in parts]) for key in keys)
        super().__init__("+".join(part.name for part in parts), **dict(zip(keys, columns, strict=False)))
        self._columns |= {"percentile": percentile, "dataset": np.repeat([*sources], self.lengths)}
        self.labels_from = "\n".join(part.labels_from for part in parts if part.labels_from)

    def encoded(self, i: int) -> bytes:
        part, row = self._rows[i]
        return part.encoded(row)


class Resized(Subset):
    """The images of a source at `height` rows, aspect ratio kept, by Lanczos resampling; losslessly encoded as BMP.

    For data sets whose observers saw all images at one height.
    """

    def __init__(self, source: Source, height: int):
        super().__init__(source, range(len(source)), source.name)
        self._height = height

    def encoded(self, i: int) -> bytes:
        def resize(image: Image.Image) -> bytes:
            size = (max(1, round(image.width * self._height / image.height)), self._height)
            return image_bytes(image.resize(size, Image.Resampling.LANCZOS), "BMP")

        return decode(super().encoded(i), name=str(self.column("image_id")[i]), use=resize)


def mid_rank(scores: np.ndarray) -> np.ndarray:
    """Rank of each score among all, (N,) float in [0, 1]; ties share their mean rank; nan stays nan."""
    return (rankdata(scores, nan_policy="omit") - 0.5) / max(np.isfinite(scores).sum(), 1)


def labels_sha256(part: Source) -> str:
    """sha256 of the image names and the scores used for evaluation."""
    rows = zip(part.column("image_id").tolist(), part.column("mos").tolist(), strict=True)
    return hashlib.sha256("".join(f"{name},{mos!r}\n" for name, mos in rows).encode()).hexdigest()
