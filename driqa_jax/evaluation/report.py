"""The result of one evaluation: figures for the whole split and its parts, and where they come from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from driqa_jax.atomic import write_whole
from driqa_jax.evaluation import correlations

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {
    "srcc": correlations.srcc,
    "krcc": correlations.krcc,
    "plcc": correlations.plcc,
    "plcc_fitted": correlations.plcc_fitted,
    "rmse": correlations.rmse,
}


@dataclasses.dataclass(frozen=True)
class Part:
    """Figures over `n` pictures; `metrics` by name, None where a figure is not defined."""

    n: int
    metrics: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Report:
    """An evaluation.

    data, split: names. n, metrics: the whole split. parts: the same for parts of it, by name; "novel" holds
    the pictures whose group (scene, reference, near repeats) has no member in another split of the data set.
    failed: pictures that could not be scored, and why; they are in no figure. provenance: plain values.
    """

    data: str
    split: str
    n: int
    metrics: Mapping[str, float | None]
    parts: Mapping[str, Part]
    failed: tuple[Mapping[str, str], ...]
    provenance: Mapping[str, Any]

    def to_json(self) -> str:
        """As JSON text, figures in full; an undefined one is null."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of `to_json`."""
        values = json.loads(text)
        parts = {name: Part(**part) for name, part in values.pop("parts").items()}
        return cls(parts=parts, failed=tuple(values.pop("failed")), **values)

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json` to `path`, whole or not at all. Raises UserError where it cannot be written."""
        write_whole(path, self.to_json().encode())

    def table(self) -> Table:
        """A rich table: a row for the whole split, then one for each part."""
        from rich.table import Table

        table = Table("pictures", "n", *METRICS, title=f"{self.data}, split {self.split}")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, part in {"all": Part(self.n, self.metrics), **self.parts}.items():
            table.add_row(name, str(part.n), *(_shown(part.metrics[metric]) for metric in METRICS))
        return table


def measure(prediction: np.ndarray, mos: np.ndarray) -> Part:
    """Every figure of `METRICS` over predictions and scores, both (N,)."""
    return Part(len(mos), {name: metric(prediction, mos) for name, metric in METRICS.items()})


def make_report(
    prediction: np.ndarray,
    mos: np.ndarray,
    data: str,
    split: str,
    provenance: Mapping[str, Any],
    subset: np.ndarray | None = None,
    novel: np.ndarray | None = None,
    failed: tuple[Mapping[str, str], ...] = (),
) -> Report:
    """The report on predictions and scores, both (N,), on the scale of MOS in [0, 1].

    subset: (N,) str; each name that is not empty becomes a part, where there are at least two. novel: (N,)
    bool; becomes the part "novel" where it is some of the pictures but not all. Raises ValueError for
    mismatched shapes.
    """
    whole = measure(prediction, mos)
    prediction, mos = np.asarray(prediction), np.asarray(mos)
    chosen: dict[str, np.ndarray] = {}
    if novel is not None:
        novel = _of_length(novel, mos, "novel").astype(bool)
        if novel.any() and not novel.all():
            chosen["novel"] = novel
    if subset is not None:
        subset = _of_length(subset, mos, "subset")
        names = [str(name) for name in np.unique(subset) if str(name)]
        if len(names) > 1:
            chosen.update({name: subset == name for name in names})
            if "novel" in chosen:
                chosen.update({f"{name}, novel": (subset == name) & novel for name in names})
    parts = {name: measure(prediction[rows], mos[rows]) for name, rows in chosen.items() if rows.any()}
    return Report(data, split, whole.n, whole.metrics, parts, tuple(failed), provenance)


def _of_length(values, mos, name):
    values = np.asarray(values)
    if values.shape != mos.shape:
        raise ValueError(f"{name} has the shape {values.shape}, mos {mos.shape}")
    return values


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
