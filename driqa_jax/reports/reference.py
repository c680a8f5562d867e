"""Reference distributions: what share of a named set of photos has a lower score."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from driqa_jax.checkpoints.weights import bundled_files
from driqa_jax.errors import UserError
from driqa_jax.io import write_json
from driqa_jax.reports.score_file import WRITERS, meta_path, scored_rows

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer

FORMAT = "driqa_jax reference/1"
FEWEST = 100  # photos
_LEVELS = np.linspace(0.0, 100.0, 201)
_TEXTS = ("photos", "licence", "date", "sha256", "effort")


@dataclasses.dataclass(frozen=True)
class Reference:
    """The scores of a set of photos by one model.

    quantiles: (201,) float64, the scores at the percentiles 0, 0.5, ..., 100. photos: what the set is, how it was
    drawn, and what to keep in mind. licence: of the photos. date: of the scoring. sha256, effort: of the scorer.
    """

    quantiles: np.ndarray
    count: int
    photos: str
    licence: str
    date: str
    sha256: str
    effort: str

    def percentile(self, score: float) -> float:
        """The share of the photos with a lower score, in percent with one decimal. Ties count half."""
        low, high = (np.searchsorted(self.quantiles, score, side) for side in ("left", "right"))
        if high > low:  # the score is a quantile, or several
            return round(float(_LEVELS[low] + _LEVELS[high - 1]) / 2, 1)
        return round(float(np.interp(score, self.quantiles, _LEVELS)), 1)

    def describe(self) -> dict[str, Any]:
        """Everything but the quantiles, as plain values for provenance."""
        return {"count": self.count, **{name: getattr(self, name) for name in _TEXTS}}

    def save(self, path: str | os.PathLike) -> None:
        """Write the file that `load` reads, atomically. Raises UserError."""
        quantiles = [round(value, 2) for value in self.quantiles.tolist()]
        write_json(path, {"format": FORMAT, **self.describe(), "quantiles": quantiles})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Reference:
        """Read a file that `save` wrote. Raises UserError naming it."""
        try:
            values = json.loads(pathlib.Path(path).read_text())
            quantiles = np.array(values.pop("quantiles"), np.float64)
            valid = values.pop("format") == FORMAT and quantiles.shape == _LEVELS.shape
            if not (valid and np.isfinite(quantiles).all() and (np.diff(quantiles) >= 0).all()):
                raise ValueError("not a reference of this format")
            return cls(quantiles, int(values["count"]), **{name: str(values[name]) for name in _TEXTS})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read as a reference distribution ({error})") from None


def from_scores(
    path: str | os.PathLike, photos: str = "", licence: str = "as the photos' owners say", date: str = ""
) -> Reference:
    """The distribution of a score file that `driqa score -o` wrote; failed images are left out.

    Raises UserError: the file cannot be read, has fewer than 100 scores, or lacks its `.meta.json`, which says what
    model made the scores.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"{path}: the extension must be one of {', '.join(WRITERS)}")
    try:
        meta = json.loads(meta_path(path).read_text())
        scores = [row.score for row in scored_rows(path) if row.score is not None]
        sha256, effort = str(meta["sha256"]), str(meta["effort"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read together with {meta_path(path).name}, which `driqa score -o` writes ({error})"
        ) from None
    if len(scores) < FEWEST:
        raise UserError(f"{path}: {len(scores)} scores are too few for percentiles; score at least {FEWEST} photos")
    date = date or datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    quantiles = np.quantile(np.array(scores), _LEVELS / 100)
    return Reference(quantiles, len(scores), photos or path.name, licence, date, sha256, effort)


def reference_path(weights: str | os.PathLike) -> pathlib.Path:
    """The reference distribution beside `NAME.safetensors`: `NAME.reference.json`."""
    path = pathlib.Path(weights)
    return path.with_name(f"{path.stem}.reference.json") if path.name else path / ".reference.json"


def reference_of(scorer: Scorer, path: str | os.PathLike | None = None) -> Reference:
    """The distribution in `path` (a score file, or a file of `Reference.save`), or the one beside the weights.

    Raises UserError if there is none, or if it was made with other weights.
    """
    if path is None:
        beside = reference_path(bundled_files().get(scorer.name, scorer.name))
        if not beside.is_file():
            raise UserError(
                f"{scorer.name}: these weights have no reference distribution, so there are no percentiles; give "
                "--reference SCORES.csv, scores of your own photos by the same model"
            )
        path = beside
    made = Reference.load(path) if str(path).lower().endswith(".json") else from_scores(path)
    if made.sha256 != scorer.sha256:
        raise UserError(
            f"{path}: its scores were made with the weights {made.sha256[:12]}, but the model has "
            f"{(scorer.sha256 or '')[:12]}; score these photos again with this model"
        )
    return made


def shares(counts: np.ndarray) -> np.ndarray:
    """Percentiles of all scores 0.00 to 100.00 from how often each occurs, (10001,) both; ties count half."""
    total = max(int(counts.sum()), 1)
    return 100.0 * (np.cumsum(counts) - counts / 2) / total
