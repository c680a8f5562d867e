"""Explain a score: a quality map, the degradations found, and the restored image."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.views import STRIDE, ViewRule, make_view
from driqa_jax.errors import UnreadableImage
from driqa_jax.inference.findings import Fault, Tiles, find_faults
from driqa_jax.inference.labels import STANDS_OUT, label
from driqa_jax.inference.stream import ModelFailure, View, named, predictions_in_order, stack_views, views_in_order
from driqa_jax.inference.tiling import through_tiles

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer

SHOWN_PIXELS = 1_500_000  # about 70 tiles; larger images are reduced before they are restored and shown
MAP_RESOLUTION = 3.0  # points; a map whose cells differ by less is even: the model does not tell its parts apart
MAP_WIDE = 50.0  # points; a map that spans less is drawn on a scale of its own, from its lowest cell to its highest
_BATCH = 16  # tiles, on accelerators
NO_RESTORER = "This model has no restoration network, so there is no restored image."


@dataclasses.dataclass(frozen=True)
class Finding:
    """A degradation of `driqa_jax.degradations.NAMES`: its probability and its severity if present, both in [0, 1].

    The severity is meaningless if the probability is small. `visibility`: the probability that a person sees it, from
    models that estimate visible drops, else None.
    """

    name: str
    probability: float
    severity: float
    visibility: float | None = None

    @property
    def label(self) -> str:
        """The display name."""
        return label(self.name)

    @property
    def prominence(self) -> float:
        """What findings are ordered and named by: the visibility, or the probability if there is none."""
        return self.probability if self.visibility is None else self.visibility

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `visibility` only if there is one."""
        shown = {"probability": self.probability, "severity": self.severity, "visibility": self.visibility}
        rounded = {key: round(value, 4) for key, value in shown.items() if value is not None}
        return {"name": self.name, "label": self.label, **rounded}


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """The model's reading of one image, in numpy.

    Attributes:
      name: path or given name of the image.
      score: 0 to 100, equal to `Result.score` before any user scale.
      uncertainty: points, as in `Result`; None if the model has no interval.
      size: (height, width) of the image, pixels.
      picture: (H, W, 3) uint8, sRGB; the image, reduced to at most `SHOWN_PIXELS` pixels.
      restored: (H, W, 3) uint8, `picture` restored in blended overlapping tiles; None with `restore=False` and for a
        model without a restoration network.
      quality_map: (rows, columns) float32, calibrated, 0 to 100; a cell covers about 32 pixels of the reduced view.
      weights: (rows, columns) float32, weights of the cells, sum 1. The weighted mean of the uncalibrated cells is the
        model's prediction, except in the form "deduction", whose score is no mean of cells.
      degradations: all types, most prominent first.
      d, q: (C,) and (Q,) float32, degradation vector and quality vector.
      not_restored: the reason why the model cannot restore; "" if it can.
      tiles: what single tiles show of the types, in the order of `types`; None if the model does not say it.
      types: names of the types in the order of the model.
    """

    name: str
    score: float
    uncertainty: float | None
    size: tuple[int, int]
    picture: np.ndarray
    restored: np.ndarray | None
    quality_map: np.ndarray
    weights: np.ndarray
    degradations: tuple[Finding, ...]
    d: np.ndarray
    q: np.ndarray
    not_restored: str = ""
    tiles: Tiles | None = None
    types: tuple[str, ...] = ()

    @property
    def even(self) -> bool:
        """Whether the cells of the map differ by less than `MAP_RESOLUTION`."""
        return bool(np.ptp(self.quality_map) < MAP_RESOLUTION)

    @property
    def map_scale(self) -> tuple[float, float]:
        """The scores at the ends of the color scale of the map, in [0, 100]."""
        low, high = float(self.quality_map.min()), float(self.quality_map.max())
        return (low, high) if high - low < MAP_WIDE else (0.0, 100.0)

    @property
    def reduced(self) -> bool:
        """Whether `picture` and `restored` are smaller than the image."""
        return self.picture.shape[:2] != self.size

    def named(self, threshold: float = STANDS_OUT) -> tuple[Finding, ...]:
        """The degradations of at least this prominence, most prominent first; possibly none."""
        return tuple(finding for finding in self.degradations if finding.prominence >= threshold)

    def faults(self, threshold: float = STANDS_OUT) -> tuple[Fault, ...]:
        """What stands out from this prominence on, in groups for people: at most three, most prominent first."""
        by_name = {one.name: one for one in self.degradations}
        ordered = [by_name[name] for name in self.types] if self.types else self.degradations
        prominence, strength = np.array([(one.prominence, one.severity) for one in ordered]).reshape(-1, 2).T
        return find_faults([one.name for one in ordered], prominence, strength, self.tiles, threshold)

    def to_dict(self, threshold: float = STANDS_OUT) -> dict[str, Any]:
        """Everything except pixels and vectors as JSON values.

        `findings`: the groups of `faults(threshold)`; `named`: the names of `named(threshold)`; `map`: the range of the
        quality map, the ends of its color scale, and whether it is even.
        """
        low, high = (round(float(x), 2) for x in (self.quality_map.min(), self.quality_map.max()))
        scale = [round(end, 2) for end in self.map_scale]
        return {
            "path": self.name,
            "score": self.score,
            "uncertainty": self.uncertainty,
            "height": self.size[0],
            "width": self.size[1],
            "shown": {"height": self.picture.shape[0], "width": self.picture.shape[1], "reduced": self.reduced},
            "quality_map": [[round(float(x), 2) for x in row] for row in self.quality_map],
            "weights": [[round(float(x), 6) for x in row] for row in self.weights],
            "map": {"lowest": low, "highest": high, "scale": scale, "even": self.even, "resolution": MAP_RESOLUTION},
            "findings": [fault.to_dict() for fault in self.faults(threshold)],
            "named": [finding.name for finding in self.named(threshold)],
            "degradations": [finding.to_dict() for finding in self.degradations],
        }


class Explainer:
    """Explains the scores of one scorer; thread-safe. JAX compiles one program per canvas and one for the restorer.

    The executor gives for a batch of views: `scores` and `weights` (B, rows, columns), `probabilities` and
    `severities` (B, T), `d` (B, C), `q` (B, Q), and `visibility` (B, T) if the model estimates it. Also `prominence`
    and `strength` of parts of the image, its cells (B, rows, columns, T) or tiles (B, K, T), if the model gives them.
    """

    def __init__(self, scorer: Scorer):
        # Map, colors and score stay on the model's scale, so a user scale is dropped.
        self._scorer, self._executor = copy.copy(scorer), scorer.executor
        self._scorer.own_scale = None
        # On a CPU batches are not faster than single images or tiles, and the last batch would be padded.
        self._rows, self._tiles = (1, 1) if self._executor.on_cpu else (scorer.batch_size, _BATCH)
        self._not_restored = "" if self._executor.restores else NO_RESTORER
        self._rule = scorer.rule
        if scorer.rule.kind != "crop":  # a crop has one tile by definition
            self._rule = dataclasses.replace(scorer.rule, tiles=max(scorer.rule.tiles, self._executor.explained_tiles))

    def __call__(self, source: ImageSource, name: str | None, shown_pixels: float, restore: bool) -> Explanation:
        """See `Scorer.explain`."""
        restore = restore and not self._not_restored
        name = name or (os.fspath(source) if isinstance(source, (str, os.PathLike)) else "picture")
        image = decode(source, self._scorer.max_pixels, name)
        (result,) = self._scorer.stream([image], names=[name])
        if result.score is None:
            raise ModelFailure(result.error) if result.internal else UnreadableImage(name, result.error)
        out, view = self._run_one(image)
        names, valid = self._names(out["probabilities"]), view["valid"]
        shown = _reduced(image, shown_pixels)
        # Reducing an image removes noise and blur, so a reduced image needs its own degradation vector.
        d = out["d"] if shown is image or not restore else self._run_one(shown)[0]["d"]
        restored = self._restored(shown, d) if restore else None
        rows, columns = valid // STRIDE
        weights = out["weights"][:rows, :columns].astype(np.float64)
        calibrated = 100 * self._scorer.calibration(out["scores"][:rows, :columns])
        return Explanation(
            name=name,
            score=result.score,
            uncertainty=result.uncertainty,
            size=image.shape[:2],
            picture=shown,
            restored=restored,
            quality_map=np.clip(calibrated, 0, 100).astype(np.float32),
            weights=(weights / weights.sum()).astype(np.float32),
            degradations=self._findings(out["probabilities"], out["severities"], out.get("visibility")),
            d=out["d"],
            q=out["q"],
            not_restored=self._not_restored,
            tiles=_places_of(out, view),
            types=names,
        )

    def features(self, images: Any) -> dict[str, np.ndarray]:
        """See `Scorer.features`."""
        widths: list[int] = []

        def run(batch):
            out = self._executor.intermediates(batch)
            widths.append(out["d"].shape[1])
            return np.concatenate([out["d"], out["q"]], axis=1)

        rows = []
        for row in self._stream(images, run, self._scorer.rule):
            if isinstance(row, Exception):
                raise row
            rows.append(row)
        if not rows:
            raise ValueError("features need at least one image, got none")
        return dict(zip(("d", "q"), np.split(np.stack(rows), widths[:1], axis=1), strict=True))

    def findings(self, images: Iterable[ImageSource]) -> Iterator[tuple[Finding, ...] | Exception]:
        """See `Scorer.findings`."""

        def run(batch):
            out = self._executor.intermediates(batch)
            columns = [out["probabilities"], out["severities"]]
            return np.stack(columns + ([out["visibility"]] if "visibility" in out else []), axis=1)

        for row in self._stream(images, run, self._rule):
            yield row if isinstance(row, Exception) else self._findings(*row)

    def _stream(self, images: Iterable[ImageSource], run: Callable, rule: ViewRule) -> Iterator[np.ndarray | Exception]:
        """The row that `run(batch)` computes for each image seen by `rule`, or the exception, in input order."""

        def view(name: str, source: ImageSource) -> View:
            return make_view(decode(source, self._scorer.max_pixels, name), rule)

        views = views_in_order(named(images, None), view, self._scorer.workers)
        for _, row in predictions_in_order(views, run, self._rows):
            yield row

    def _run_one(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], View]:
        """Intermediates of one image, without a batch axis, and its view."""
        view = make_view(image, self._rule)
        out = self._executor.intermediates(stack_views([view], self._rows))
        return {key: value[0] for key, value in out.items()}, view

    def _restored(self, image: np.ndarray, d: np.ndarray) -> np.ndarray:
        tile, vectors = self._scorer.rule.tile, np.repeat(d[None], self._tiles, axis=0)
        return through_tiles(image, lambda tiles: self._executor.restored(tiles, vectors), tile, self._tiles)

    def _findings(
        self, probabilities: np.ndarray, severities: np.ndarray, visibility: np.ndarray | None = None
    ) -> tuple[Finding, ...]:
        names = self._names(probabilities)
        columns = [probabilities, severities] if visibility is None else [probabilities, severities, visibility]
        findings = [Finding(name, *map(float, row)) for name, *row in zip(names, *columns, strict=True)]
        return tuple(sorted(findings, key=lambda finding: -finding.prominence))

    def _names(self, probabilities: np.ndarray) -> tuple[str, ...]:
        return self._scorer.degradations or tuple(f"type {i}" for i in range(len(probabilities)))


def _places_of(out: dict[str, np.ndarray], view: View) -> Tiles | None:
    """What the parts of an image show: the cells of the quality map, or the tiles."""
    if "prominence" not in out:
        return None
    if out["prominence"].ndim == 2:
        return Tiles(view["tile_boxes"], out["prominence"], out["strength"])
    rows, columns = view["valid"] // STRIDE
    prominence, strength = (
        out[name][:rows, :columns].reshape(rows * columns, -1) for name in ("prominence", "strength")
    )
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1)
    return Tiles(np.stack([y / rows, x / columns, (y + 1) / rows, (x + 1) / columns], axis=1), prominence, strength)


def _reduced(image: np.ndarray, most: float) -> np.ndarray:
    """The image, reduced to at most `most` pixels with its aspect ratio."""
    height, width = image.shape[:2]
    if height * width <= most:
        return image
    scale = (most / (height * width)) ** 0.5
    size = max(int(width * scale), 1), max(int(height * scale), 1)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
