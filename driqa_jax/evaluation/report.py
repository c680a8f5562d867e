"""The result of one evaluation: metrics of a split and of its parts, with provenance."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.correlations import krcc, plcc, plcc_fitted, rmse, srcc
from driqa_jax.evaluation.tables import UNDEFINED_INTERVAL, Cell, RunEstimate, Table
from driqa_jax.io import to_json, write_text

METRICS = {metric.__name__: metric for metric in (srcc, krcc, plcc, plcc_fitted, rmse)}
HEADS = {name: name.upper().replace("_FITTED", ", fitted") for name in METRICS}
Interval = tuple[float, float]
CROSS_METRICS = ("srcc", "plcc_fitted")  # of `cross_table`
GROUPS = 5  # of images in `coverage`
DEGRADATION = "degradation: "  # prefix of a part's name that holds one degradation


@dataclasses.dataclass(frozen=True)
class Part:
    """Metrics of `n` images by name; None if undefined."""

    n: int
    metrics: Mapping[str, float | None]
    # 95 % bootstrap intervals by name, None if undefined; empty without resampling.
    intervals: Mapping[str, Interval | None] = dataclasses.field(default_factory=dict)
    # For medians over runs, the standard deviation over these runs by name; otherwise empty.
    spread: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    is_difference: ClassVar[bool] = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        intervals = {name: tuple(pair) if pair else None for name, pair in values.get("intervals", {}).items()}
        return cls(values["n"], values["metrics"], intervals, values.get("spread", {}))

    def within_noise(self, name: str) -> bool:
        """True for a difference whose interval contains 0."""
        pair = self.intervals.get(name)
        return self.is_difference and bool(pair and pair[0] <= 0 <= pair[1])

    def cell(self, name: str) -> RunEstimate:
        """The metric as a table cell."""
        interval = (self.intervals[name] or UNDEFINED_INTERVAL) if self.intervals else None
        return RunEstimate(self.metrics[name], interval, self.n, self.spread.get(name), self.within_noise(name))


class Gap(Part):
    """Differences of metrics."""

    is_difference = True


@dataclasses.dataclass(frozen=True)
class Report:
    """An evaluation of one split of one data set; `n`, `metrics` and `intervals` are those of the whole split."""

    data: str
    split: str
    n: int
    metrics: Mapping[str, float | None]
    # By name; "novel" holds images whose group (scene, reference, near duplicates) has no member in another split.
    parts: Mapping[str, Part]
    failed: tuple[Mapping[str, str], ...]  # images without a score and the reasons; no metric includes them
    provenance: Mapping[str, Any]  # plain values
    intervals: Mapping[str, Interval | None] = dataclasses.field(default_factory=dict)
    # Scores of other metrics on the same images, by metric and part ("all" included), and the model minus these.
    others: Mapping[str, Mapping[str, Part]] = dataclasses.field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Part]] = dataclasses.field(default_factory=dict)
    coverage: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of `coverage`; {} without intervals

    @property
    def whole(self) -> Part:
        """The whole split as a part."""
        return Part(self.n, self.metrics, self.intervals)

    def to_json(self) -> str:
        """JSON text with full precision; an undefined metric is null."""
        return to_json(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, also after JSON and for files of earlier versions."""
        changed: dict[str, Any] = {
            "parts": {name: Part.from_dict(part) for name, part in values["parts"].items()},
            "intervals": Part.from_dict(values).intervals,
            "failed": tuple(values["failed"]),
        }
        for key, kind in (("others", Part), ("differences", Gap)):
            changed[key] = {
                other: {name: kind.from_dict(part) for name, part in parts.items()}
                for other, parts in values.get(key, {}).items()
            }
        return cls(**{**values, **changed})

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json` to `path` atomically. Raises UserError if that fails."""
        write_text(path, self.to_json())

    def rows(self) -> Iterator[tuple[str, str, Part]]:
        """(source of the scores, images, metrics): the model, then other metrics, then the differences."""
        model = str(self.provenance.get("model", "model"))
        tables = [(model, {"all": self.whole, **self.parts}), *self.others.items()]
        tables += [(f"{model} - {other}", parts) for other, parts in self.differences.items()]
        return ((scores, images, part) for scores, parts in tables for images, part in parts.items())

    def table(self) -> Table:
        """The rows as a table."""
        return report_table(self.data, self.split, self.rows())


def report_table(data: str, split: str, rows: Iterable[tuple[str, str, Part]]) -> Table:
    """The table of `Report.rows`: one row per source of scores and part."""
    first = ("scores", "pictures", "n")
    cells = [[scores, images, part.n, *map(part.cell, METRICS)] for scores, images, part in rows]
    constants = {"data": data, "split": split}
    return Table(f"{data}, split {split}", (*first, *HEADS.values()), cells, (*first, *METRICS), constants)


def cross_table(reports: Mapping[str, Report], metrics: Sequence[str] = CROSS_METRICS) -> Table:
    """One row per source of scores and metric, one column per set, and the mean over the sets.

    The mean weighs sets equally and has no interval, because the sets are no sample; it is undefined if a set's figure
    is. Sources are the model, then other metrics by name; one that a set lacks is undefined there.
    """
    columns = {name: _sources(report) for name, report in reports.items()}
    sources = list(dict.fromkeys(source for parts in columns.values() for source in parts))
    rows: list[list[Cell]] = []
    for metric in metrics:
        for source in sources:
            cells = [parts[source].cell(metric) if source in parts else RunEstimate(None) for parts in columns.values()]
            values = [cell.value for cell in cells]
            mean = None if None in values else float(np.mean([value for value in values if value is not None]))
            rows.append([HEADS[metric], source, *cells, RunEstimate(mean)])
    heads = ["", "scores", *(f"{name} ({report.n})" for name, report in reports.items()), "mean"]
    return Table("agreement with human scores", heads, rows, ["metric", "scores", *reports, "mean"])


def _sources(report: Report) -> dict[str, Part]:
    model = str(report.provenance.get("model", "model"))
    return {model: report.whole, **{name: parts["all"] for name, parts in report.others.items()}}


def measure(prediction: np.ndarray, mos: np.ndarray, draws: int = 0, seed: int = 0, scaled: bool = True) -> Part:
    """All `METRICS` of predictions and scores, both (N,), with intervals from `draws` resamples.

    scaled: the predictions have the scale of MOS; otherwise rmse is undefined.
    """
    metrics = {name: metric(prediction, mos) for name, metric in METRICS.items()}
    intervals = bootstrap.intervals(bootstrap.replicates(prediction, mos, draws, seed)) if draws else {}
    if not scaled:
        metrics, intervals = ({**values, "rmse": None} if values else values for values in (metrics, intervals))
    return Part(len(mos), metrics, intervals)


def difference(
    prediction: np.ndarray, other: np.ndarray, mos: np.ndarray, draws: int = 0, seed: int = 0, scaled: bool = True
) -> Gap:
    """All `METRICS` of `prediction` minus those of `other`, all (N,), with intervals over the same resamples."""
    gaps = subtract(measure(prediction, mos), measure(other, mos, scaled=scaled))
    if not draws:
        return Gap(len(mos), gaps)
    one, two = (bootstrap.replicates(x, mos, draws, seed) for x in (prediction, other))
    intervals = bootstrap.intervals({name: one[name] - two[name] for name in METRICS})
    return Gap(len(mos), gaps, {name: None if gaps[name] is None else intervals[name] for name in METRICS})


def subtract(first: Part, second: Part) -> dict[str, float | None]:
    """Differences of metrics by name; None if one of the two is undefined."""
    pairs = {name: (first.metrics[name], second.metrics[name]) for name in METRICS}
    return {name: None if x is None or y is None else x - y for name, (x, y) in pairs.items()}


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
    """The report of predictions and scores, both (N,) on the scale of MOS; ValueError if their shapes differ.

    prediction, mos: in [0, 1]. subset, degradation: (N,) str; every non-empty name becomes a part, if there are at
    least two names. novel: (N,) bool; becomes the part "novel" if it holds for some images but not for all. others:
    scores of other metrics by name, (N,), on any scale, higher is better. draws, seed: bootstrap resamples (0: no
    intervals) and their seed.
    """
    mos = np.asarray(mos)
    prediction = _same_shape(prediction, mos, "prediction")
    rows_of = {"all": np.ones(len(mos), bool), **_parts(mos, subset, novel, degradation)}
    parts = {name: measure(prediction[rows], mos[rows], draws, seed) for name, rows in rows_of.items()}
    tables: dict[str, dict[str, Part]] = {}
    gaps: dict[str, dict[str, Part]] = {}
    for name, scores in (others or {}).items():
        scores = _same_shape(scores, mos, name)
        scaled = bool(((scores >= 0) & (scores <= 1)).all())
        tables[name], gaps[name] = {}, {}
        for part, rows in rows_of.items():
            options = (mos[rows], draws, seed, scaled)
            tables[name][part] = measure(scores[rows], *options)
            gaps[name][part] = difference(prediction[rows], scores[rows], *options)
    whole = parts.pop("all")
    return Report(data, split, whole.n, whole.metrics, parts, tuple(failed), provenance, whole.intervals, tables, gaps)


def _parts(mos, subset, novel, degradation) -> dict[str, np.ndarray]:
    """The rows of each non-empty part, by name (N,) bool."""
    parts = subsets = _by_name(subset, mos, "subset")
    novel = np.zeros(len(mos), bool) if novel is None else _same_shape(novel, mos, "novel").astype(bool)
    if novel.any() and not novel.all():
        parts = {"novel": novel, **subsets, **{f"{name}, novel": rows & novel for name, rows in subsets.items()}}
    degradations = _by_name(degradation, mos, "degradation")
    parts = {**parts, **{DEGRADATION + name: rows for name, rows in degradations.items()}}
    return {name: rows for name, rows in parts.items() if rows.any()}


def _by_name(labels, mos, name) -> dict[str, np.ndarray]:
    if labels is None:
        return {}
    labels = _same_shape(labels, mos, name)
    names = [str(label) for label in np.unique(labels) if str(label)]
    return {label: labels == label for label in names} if len(names) > 1 else {}


def _same_shape(values, mos, name) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != mos.shape:
        raise ValueError(f"{name} has the shape {values.shape}, mos {mos.shape}")
    return values


def coverage(score: np.ndarray, half_width: np.ndarray, mos: np.ndarray, level: float) -> dict[str, Any]:
    """Coverage of the intervals `score +- half_width`; all arrays (N,), in MOS.

    Returns `level` (nominal), `n`, `held` (share of `mos` inside), `half_width` (mean), and `groups`: the last three
    for `GROUPS` equal parts of the images, ordered by interval width.
    """
    inside = np.abs(mos - score) <= half_width

    def share(rows: np.ndarray) -> dict[str, Any]:
        return {"n": len(rows), "held": float(inside[rows].mean()), "half_width": float(half_width[rows].mean())}

    by_width = np.array_split(np.argsort(half_width, kind="stable"), min(GROUPS, len(mos)))
    return {"level": level, **share(np.arange(len(mos))), "groups": [share(rows) for rows in by_width]}


def coverage_line(values: Mapping[str, Any]) -> str:
    """The result of `coverage` as one sentence."""
    return (
        f"intervals that should hold {values['level']:.0%} of the MOS hold {values['held']:.1%}; "
        f"half of their width is {100 * values['half_width']:.1f} points on average"
    )
