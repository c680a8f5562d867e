"""The result of one evaluation: figures for the whole split and its parts, and where they come from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from driqa_jax.evaluation import bootstrap, correlations
from driqa_jax.io import write_whole

METRICS = {
    "srcc": correlations.srcc,
    "krcc": correlations.krcc,
    "plcc": correlations.plcc,
    "plcc_fitted": correlations.plcc_fitted,
    "rmse": correlations.rmse,
}
Interval = tuple[float, float]
# How a part is named that holds one degradation.
DEGRADATION = "degradation: "


@dataclasses.dataclass(frozen=True)
class Part:
    """Figures over `n` pictures; `metrics` by name, None where a figure is not defined.

    intervals: the bootstrap's 95 % by name, None where one is not defined; empty where none was asked for. spread:
    where the figures are medians of several runs, the standard deviation of those by name; else empty.
    """

    n: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None] = dataclasses.field(default_factory=dict)
    spread: Mapping[str, float | None] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        """The inverse of `dataclasses.asdict`."""
        found = {name: tuple(pair) if pair else None for name, pair in values.get("intervals", {}).items()}
        return cls(values["n"], values["metrics"], found, values.get("spread", {}))

    def within_noise(self, name: str) -> bool:
        """Of a difference: whether its interval holds 0."""
        return False


class Gap(Part):
    """Differences of figures."""

    def within_noise(self, name: str) -> bool:
        """Of a difference: whether its interval holds 0."""
        pair = self.intervals.get(name)
        return bool(pair and pair[0] <= 0 <= pair[1])


@dataclasses.dataclass(frozen=True)
class Report:
    """An evaluation.

    data, split: names. n, metrics, intervals: the whole split, as in `Part`. parts: the same for parts of it, by
    name; "novel" holds the pictures whose group (scene, reference, near repeats) has no member in another split of
    the data set. others: the same for other metrics' scores of the same pictures: by metric, by part, "all" among
    them. differences: the model's figure less the other's, each with the interval of the difference over the same
    resamples. coverage: what the model's intervals hold, as `coverage.coverage` says; {} where it has none. failed:
    pictures that could not be scored, and why; they are in no figure. provenance: plain values.
    """

    data: str
    split: str
    n: int
    metrics: Mapping[str, float | None]
    parts: Mapping[str, Part]
    failed: tuple[Mapping[str, str], ...]
    provenance: Mapping[str, Any]
    intervals: Mapping[str, Interval | None] = dataclasses.field(default_factory=dict)
    others: Mapping[str, Mapping[str, Part]] = dataclasses.field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Part]] = dataclasses.field(default_factory=dict)
    coverage: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """As JSON text, figures in full; an undefined one is null."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of `to_json`; reads what earlier versions wrote, too."""
        values = json.loads(text)
        whole = Part.from_dict(values)
        parts = {name: Part.from_dict(part) for name, part in values.pop("parts").items()}
        tables = {
            key: {
                other: {name: kind.from_dict(part) for name, part in rows.items()}
                for other, rows in values.pop(key, {}).items()
            }
            for key, kind in (("others", Part), ("differences", Gap))
        }
        return cls(
            **{**values, **tables, "intervals": whole.intervals, "parts": parts, "failed": tuple(values["failed"])}
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json` to `path`, whole or not at all. Raises UserError where it cannot be written."""
        write_whole(path, self.to_json().encode())

    def rows(self) -> Iterator[tuple[str, str, Part]]:
        """Whose scores, which pictures, figures: the model's rows, other metrics' rows, then the differences."""
        model = str(self.provenance.get("model", "model"))
        for name, part in {"all": Part(self.n, self.metrics, self.intervals), **self.parts}.items():
            yield model, name, part
        for other, parts in self.others.items():
            for name, part in parts.items():
                yield other, name, part
        for other, parts in self.differences.items():
            for name, part in parts.items():
                yield f"{model} - {other}", name, part


def measure(prediction: np.ndarray, mos: np.ndarray, draws: int = 0, seed: int = 0, scaled: bool = True) -> Part:
    """Every figure of `METRICS` over predictions and scores, both (N,), with intervals from `draws` resamples.

    scaled: whether predictions are on the scale of MOS; where they are not, rmse is not defined.
    """
    metrics = {name: metric(prediction, mos) for name, metric in METRICS.items()}
    found = bootstrap.intervals(bootstrap.replicates(prediction, mos, draws, seed)) if draws else {}
    if not scaled:
        metrics, found = ({**values, "rmse": None} if values else values for values in (metrics, found))
    return Part(len(mos), metrics, found)


def difference(
    prediction: np.ndarray, other: np.ndarray, mos: np.ndarray, draws: int = 0, seed: int = 0, scaled: bool = True
) -> Gap:
    """Every figure of the predictions less that of the other, all (N,), with intervals over the same resamples."""
    first, second = measure(prediction, mos), measure(other, mos, scaled=scaled)
    gaps = {name: _gap(first.metrics[name], second.metrics[name]) for name in METRICS}
    if not draws:
        return Gap(len(mos), gaps)
    one, two = (bootstrap.replicates(x, mos, draws, seed) for x in (prediction, other))
    found = bootstrap.intervals({name: one[name] - two[name] for name in METRICS})
    return Gap(len(mos), gaps, {name: None if gaps[name] is None else found[name] for name in METRICS})


def make_report(
    prediction: np.ndarray,
    mos: np.ndarray,
    data: str,
    split: str,
    provenance: Mapping[str, Any],
    subset: np.ndarray | None = None,
    novel: np.ndarray | None = None,
    failed: tuple[Mapping[str, str], ...] = (),
    degradation: np.ndarray | None = None,
    others: Mapping[str, np.ndarray] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Report:
    """The report on predictions and scores, both (N,), on the scale of MOS in [0, 1].

    subset, degradation: (N,) str; each name that is not empty becomes a part, where there are at least two. novel:
    (N,) bool; becomes the part "novel" where it is some of the pictures but not all. others: other metrics' scores
    by name, (N,), on any scale, higher is better. draws, seed: resamples of the bootstrap (0: no intervals). Raises
    ValueError for mismatched shapes.
    """
    prediction, mos = np.asarray(prediction), np.asarray(mos)
    chosen = _parts(mos, subset, novel, degradation)
    whole = {"all": np.ones(len(mos), bool), **chosen}
    tables, gaps = {}, {}
    found = {name: measure(prediction[rows], mos[rows], draws, seed) for name, rows in whole.items()}
    for name, scores in (others or {}).items():
        scores = _of_length(scores, mos, name)
        scaled = bool(((scores >= 0) & (scores <= 1)).all())
        tables[name] = {part: measure(scores[rows], mos[rows], draws, seed, scaled) for part, rows in whole.items()}
        gaps[name] = {
            part: difference(prediction[rows], scores[rows], mos[rows], draws, seed, scaled)
            for part, rows in whole.items()
        }
    top = found.pop("all")
    return Report(data, split, top.n, top.metrics, found, tuple(failed), provenance, top.intervals, tables, gaps)


def _parts(mos, subset, novel, degradation):
    """Which pictures each part holds: by name (N,) bool, some of them."""
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
    if degradation is not None:
        degradation = _of_length(degradation, mos, "degradation")
        names = [str(name) for name in np.unique(degradation) if str(name)]
        if len(names) > 1:
            chosen.update({DEGRADATION + name: degradation == name for name in names})
    return {name: rows for name, rows in chosen.items() if rows.any()}


def _gap(first, second):
    return None if first is None or second is None else first - second


def _of_length(values, mos, name):
    values = np.asarray(values)
    if values.shape != mos.shape:
        raise ValueError(f"{name} has the shape {values.shape}, mos {mos.shape}")
    return values
