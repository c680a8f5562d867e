"""What a score means: its percentile among reference photos, and named bands such as stars."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.io import csv_line, replacing
from driqa_jax.reports.reference import Reference, shares
from driqa_jax.reports.score_file import COLUMNS, scored_rows

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Result

# The five grades of ITU-R BT.500 and ITU-T P.910, which opinion scores average, in equal steps.
_PRESETS = {"stars": "1=0,2=20,3=40,4=60,5=80", "words": "bad=0,poor=20,fair=40,good=60,excellent=80"}


class AnnotatedRow(NamedTuple):
    """A row of a score file with the values of its further columns."""

    path: str
    score: float | None
    uncertainty: float | None
    error: str | None
    extra: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Bands:
    """Names of ranges, lowest first; `starts[i]` is the lowest value in [0, 100] of `names[i]`, `starts[0]` is 0.

    by: what is compared: "score"; "percentile" among the reference photos; "folder", the percentile among the images
    of the run.
    """

    names: tuple[str, ...]
    starts: tuple[float, ...]
    by: str = "score"

    def name(self, value: float) -> str:
        """The band of a value."""
        return self.names[max(int(np.searchsorted(self.starts, value, "right")) - 1, 0)]

    def require_ratings(self) -> dict[str, int]:
        """The rating of each band, from -1 to 5. Raises UserError if the names are no such numbers."""
        try:
            ratings = {name: int(name) for name in self.names}
        except ValueError:
            ratings = {}
        if not ratings or not all(-1 <= rating <= 5 for rating in ratings.values()):
            raise UserError(
                f"--bands {','.join(self.names)}: ratings need bands with names from -1 to 5, such as stars"
            )
        return ratings


def parse_bands(text: str, by: str = "score") -> Bands:
    """`stars`, `words`, or NAME=FROM,... such as `reject=0,keep=45,best=70`. Raises UserError naming what is wrong."""
    pairs = [part.strip().rpartition("=") for part in _PRESETS.get(text, text).split(",")]
    names = tuple(name.strip() for name, _, _ in pairs)
    try:
        starts = tuple(float(start) for _, _, start in pairs)
    except ValueError:
        starts = ()
    rising = all(low < high for low, high in zip((-1.0, *starts), (*starts, 100.0), strict=True))  # also for NaN
    if not starts or starts[0] != 0 or not rising or not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"--bands {text}: must be stars, words, or NAME=FROM,... with different names and rising numbers from 0 "
            "to below 100, such as reject=0,keep=45,best=70"
        )
    return Bands(names, starts, by)


class Meaning:
    """Adds a percentile and a band to rows.

    reference: gives the column `percentile`, and bands by percentile need it. bands: give the column `band`.
    show_percentile, show_band: whether the columns are wanted, or serve the bands and the ratings only. show_decoded:
    adds the column `decoded`, "preview" or "developed" for a raw photo. show_reasons: adds the column `reasons`, the
    codes of what stands out, joined by semicolons, of a scorer with `reasons`.
    """

    def __init__(
        self,
        reference: Reference | None = None,
        bands: Bands | None = None,
        show_percentile: bool = True,
        show_band: bool = True,
        show_decoded: bool = False,
        show_reasons: bool = False,
    ):
        self.reference, self.bands = reference, bands
        wanted = {"percentile": reference and show_percentile, "band": bands and show_band}
        wanted |= {"decoded": show_decoded, "reasons": show_reasons}
        self.columns = tuple(name for name, value in wanted.items() if value)
        self._shares: np.ndarray | None = None

    @property
    def by_folder(self) -> bool:
        """Whether bands are known only when all images have a score."""
        return self.bands is not None and self.bands.by == "folder"

    def describe(self) -> dict[str, Any]:
        """Plain values for the provenance, about the columns alone; {} without columns."""
        if not self.columns:
            return {}
        described: dict[str, Any] = {"columns": list(self.columns)}
        if self.reference:
            described["reference"] = self.reference.describe()
        if self.bands and "band" in self.columns:
            starts = dict(zip(self.bands.names, self.bands.starts, strict=True))
            described["bands"] = {"by": self.bands.by, "from": starts}
        return described

    def values(
        self, score: float | None, decoded: str | None = None, reasons: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """The columns of a score; None where there is none, or where a band by folder is not known yet."""
        said = None if reasons is None else ";".join(reasons)
        known: dict[str, Any] = {"percentile": None, "band": None, "decoded": decoded, "reasons": said}
        if score is not None:
            known["percentile"] = self.reference.percentile(score) if self.reference else None
            known["band"] = self.band(score)
        return {name: known[name] for name in self.columns}

    def band(self, score: float) -> str | None:
        """The band of a score; None without bands, or if it is by folder and not known yet."""
        if self.bands is None or (self.by_folder and self._shares is None):
            return None
        if self._shares is not None:
            return self.bands.name(float(self._shares[round(score * 100)]))
        if self.bands.by == "percentile" and self.reference:
            return self.bands.name(self.reference.percentile(score))
        return self.bands.name(score)

    def words(self, score: float) -> str:
        """The band and the percentile of a score for display, such as "band 4, percentile 71.5"; "" without columns."""
        values = self.values(score)
        percentile, band = values.get("percentile"), values.get("band")
        words = (f"band {band}" if band else "", "" if percentile is None else f"percentile {percentile}")
        return ", ".join(filter(None, words))

    def band_counts(self, counts: np.ndarray) -> list[tuple[str, int]]:
        """How many images each band has, best first, from how often each score 0.00 to 100.00 occurs, (10001,)."""
        if "band" not in self.columns or self.bands is None:
            return []
        totals = dict.fromkeys(reversed(self.bands.names), 0)
        for value in np.flatnonzero(counts).tolist():
            if (band := self.band(value / 100)) is not None:
                totals[band] += int(counts[value])
        return list(totals.items())

    def about(self) -> str:
        """A sentence about the reference photos for display; "" without the column."""
        if "percentile" not in self.columns or self.reference is None:
            return ""
        photos = f"{self.reference.count:,} reference photos with a lower score: {self.reference.photos}"
        return f"A percentile is the share of {photos}."

    def annotate(self, row: Result) -> AnnotatedRow:
        """The row with its further columns; a raw photo always says how it was decoded in JSON Lines."""
        decoded = getattr(row, "decoded", None)
        extra = self.values(row.score, decoded, row.reasons)
        if decoded:
            extra.setdefault("decoded", decoded)
        return AnnotatedRow(row.path, row.score, row.uncertainty, row.error, extra)

    def rank_folder(self, path: str | os.PathLike) -> None:
        """Learn the percentiles of a finished score file, for bands by folder, and fill its column `band`.

        The file is replaced atomically. Raises UserError if it cannot be written.
        """
        counts = np.zeros(10001, np.int64)
        for row in scored_rows(path):
            if row.score is not None:
                counts[round(row.score * 100)] += 1
        self._shares = shares(counts)
        fill = _csv_lines if pathlib.Path(path).suffix.lower() == ".csv" else _json_lines
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with replacing(path) as part, open(path, **text) as before, open(part, "w", **text) as after:
            after.writelines(fill(before, self))


def _csv_lines(file: io.TextIOBase, meaning: Meaning) -> Iterator[str]:
    rows = csv.reader(file, strict=True)
    head = next(rows)
    score, band = COLUMNS.index("score"), head.index("band")
    yield csv_line(head)
    for cells in rows:
        if cells[score]:
            cells[band] = meaning.band(float(cells[score])) or ""
        yield csv_line(cells)


def _json_lines(file: io.TextIOBase, meaning: Meaning) -> Iterator[str]:
    for line in file:
        row = json.loads(line)
        if row["score"] is not None:
            row["band"] = meaning.band(row["score"])
        yield json.dumps(row) + "\n"
