"""Why a picture has its score: where it is good, what is wrong with it, what a restorer makes of it."""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.views import STRIDE, make_view
from driqa_jax.errors import UnreadableImage
from driqa_jax.inference.labels import STANDS_OUT, label
from driqa_jax.inference.stream import ModelFailure, View, views_in_order
from driqa_jax.inference.tiling import through_tiles

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer

SHOWN_PIXELS = 1_500_000  # about 70 tiles; a picture with more is reduced before it is restored and shown
# On a CPU a batch is not faster than its tiles one by one, and the last batch would be padded.
_TILES = {"cpu": 1}
_TILES_ON_ACCELERATORS = 16


@dataclasses.dataclass(frozen=True)
class Finding:
    """One type of degradation: its name, the probability that it is there, and how severe it is if so.

    `name` as in `driqa_jax.degradations.NAMES`; `probability` and `severity` in [0, 1]. Severity means nothing where
    the probability is small.
    """

    name: str
    probability: float
    severity: float

    @property
    def label(self) -> str:
        """The name in plain words."""
        return label(self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What the model sees in one picture; plain numpy.

    Attributes:
      name: the picture's path, or what it was called.
      score: 0 to 100, the very number that the scorer gives (before a scale of one's own).
      uncertainty: points, of the score, as `Result` has it; None where there is none.
      size: height and width of the picture, pixels.
      picture: uint8 (H, W, 3), sRGB; the picture as shown: whole, or reduced to at most `SHOWN_PIXELS` pixels.
      restored: uint8 (H, W, 3), what the restorer makes of `picture`, from overlapping tiles, blended; None where that
        was not asked for.
      quality_map: float32 (rows, columns), 0 to 100, calibrated; cells of about 32 pixels of the reduced view.
      weights: float32 (rows, columns), how much each cell counts; sum 1. The mean of the cells so weighted, taken
        before calibration, is the model's prediction.
      degradations: all types, the most probable first.
      d, q: float32 (C,), degradation vector and quality vector.
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

    @property
    def reduced(self) -> bool:
        """Whether `picture` and `restored` are smaller than the picture was."""
        return self.picture.shape[:2] != self.size

    def named(self, threshold: float = STANDS_OUT) -> tuple[Finding, ...]:
        """The degradations at least this probable, the most probable first; may be none."""
        return tuple(found for found in self.degradations if found.probability >= threshold)

    def to_dict(self, threshold: float = STANDS_OUT) -> dict[str, Any]:
        """All but pixels and vectors, as plain values for JSON; `named` holds names of `degradations`."""
        return {
            "path": self.name,
            "score": self.score,
            "uncertainty": self.uncertainty,
            "height": self.size[0],
            "width": self.size[1],
            "shown": {"height": self.picture.shape[0], "width": self.picture.shape[1], "reduced": self.reduced},
            "quality_map": [[round(float(x), 2) for x in row] for row in self.quality_map],
            "weights": [[round(float(x), 6) for x in row] for row in self.weights],
            "named": [found.name for found in self.named(threshold)],
            "degradations": [
                {
                    "name": found.name,
                    "label": found.label,
                    "probability": round(found.probability, 4),
                    "severity": round(found.severity, 4),
                }
                for found in self.degradations
            ],
        }


class Explainer:
    """Explains the scores of one scorer; programs are compiled once: one a canvas, and one for the restorer.

    Safe to call from several threads.
    """

    def __init__(self, scorer: Scorer):
        # Map, colours and score are of one scale: the model's, whatever scale of one's own the scorer has.
        self._scorer = copy.copy(scorer)
        self._scorer.own_scale = None
        on_cpu = scorer.device.platform == "cpu"
        self._rows = 1 if on_cpu else scorer.batch_size
        self._tiles = _TILES.get(scorer.device.platform, _TILES_ON_ACCELERATORS)
        self._look_at = jax.jit(self._intermediates)
        self._restore = jax.jit(self._restored_tiles)

    def __call__(
        self,
        image: ImageSource,
        name: str | None,
        shown_pixels: float,
        restore: bool,
    ) -> Explanation:
        """See `Scorer.explain`."""
        name = name or _name(image)
        picture = decode(_plain(image), self._scorer.max_pixels, name)
        (result,) = self._scorer.stream([picture], names=[name])
        if result.score is None:
            raise ModelFailure(result.error) if result.internal else UnreadableImage(name, result.error)
        seen = self._look([make_view(picture, self._scorer.rule)])
        shown = _reduced(picture, shown_pixels)
        restored = self._restored(shown, None if shown is not picture else seen["d"]) if restore else None
        seen = {key: value[0] for key, value in seen.items()}
        rows, columns = seen["valid"] // STRIDE
        weights = seen["weights"][:rows, :columns].astype(np.float64)
        calibrated = 100 * self._scorer.calibration(seen["scores"][:rows, :columns])
        return Explanation(
            name=name,
            score=result.score,
            uncertainty=result.uncertainty,
            size=picture.shape[:2],
            picture=shown,
            restored=restored,
            quality_map=np.clip(calibrated, 0, 100).astype(np.float32),
            weights=(weights / weights.sum()).astype(np.float32),
            degradations=self._findings(seen["probabilities"], seen["severities"]),
            d=seen["d"],
            q=seen["q"],
        )

    def features(self, images: Any) -> dict[str, np.ndarray]:
        """See `Scorer.features`."""
        found: list[dict[str, np.ndarray] | None] = []
        gathered: dict[tuple[int, int], list[tuple[int, View]]] = {}

        def finish(canvas):
            places, views = zip(*gathered.pop(canvas), strict=True)
            seen = self._look(list(views))
            for row, place in enumerate(places):
                found[place] = {key: seen[key][row] for key in ("d", "q")}

        named = ((_name(image, i), image) for i, image in enumerate(images))
        for _, view in views_in_order(named, self._see, self._scorer.workers):
            if isinstance(view, Exception):
                raise view
            canvas = view["whole"].shape[:2]
            gathered.setdefault(canvas, []).append((len(found), view))
            found.append(None)
            if len(gathered[canvas]) == self._rows:
                finish(canvas)
        for canvas in list(gathered):
            finish(canvas)
        if not found:
            raise ValueError("features of no picture at all; give at least one")
        return {key: np.stack([row[key] for row in found]) for key in ("d", "q")}

    def _see(self, name: str, source: ImageSource) -> View:
        return make_view(decode(_plain(source), self._scorer.max_pixels, name), self._scorer.rule)

    def _look(self, views: list[View]) -> dict[str, np.ndarray]:
        """What the model sees in pictures of one canvas, at most `_rows`; a leading axis, one row a picture."""
        padded = views + views[-1:] * (self._rows - len(views))
        batch = {key: np.stack([view[key] for view in padded]) for key in views[0]}
        seen = self._look_at(self._scorer.params, jax.device_put(batch, self._scorer.device))
        return {key: np.asarray(value)[: len(views)] for key, value in seen.items()}

    def _intermediates(self, params, batch):
        whole, tiles = (batch[key].astype(jnp.float32) / 255.0 for key in ("whole", "tiles"))
        _, out = self._scorer.model.apply({"params": params}, whole, batch["valid"], tiles, batch["tile_boxes"])
        return {
            "scores": out["patch_scores"],
            "weights": out["patch_weights"],
            "probabilities": jax.nn.sigmoid(out["degradation_logits"]),
            "severities": out["severity"],
            "d": out["d"],
            "q": out["q"],
            "valid": batch["valid"],
        }

    def _restored(self, picture: np.ndarray, d: np.ndarray | None) -> np.ndarray:
        if d is None:
            # The restorer must know what is wrong with the pixels it gets; reducing takes noise and blur away.
            d = self._look([make_view(picture, self._scorer.rule)])["d"]
        vectors = np.repeat(d, self._tiles, axis=0)

        def run(tiles):
            given = jax.device_put((tiles, vectors), self._scorer.device)
            return self._restore(self._scorer.params, *given)

        return through_tiles(picture, run, self._scorer.rule.tile, self._tiles)

    def _restored_tiles(self, params, tiles, d):
        tiles = tiles.astype(jnp.float32) / 255.0
        return self._scorer.model.apply({"params": params}, tiles, d, method="restore")

    def _findings(self, probabilities: np.ndarray, severities: np.ndarray) -> tuple[Finding, ...]:
        known = self._scorer.degradations or tuple(f"type {i}" for i in range(len(probabilities)))
        rows = zip(known, probabilities, severities, strict=True)
        found = [Finding(name, float(probability), float(severity)) for name, probability, severity in rows]
        return tuple(sorted(found, key=lambda one: -one.probability))


def _reduced(picture: np.ndarray, most: float) -> np.ndarray:
    """The picture itself, or a smaller one of at most that many pixels and the same form."""
    height, width = picture.shape[:2]
    if height * width <= most:
        return picture
    scale = (most / (height * width)) ** 0.5
    size = max(int(width * scale), 1), max(int(height * scale), 1)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _plain(image: Any) -> Any:
    return np.asarray(image) if isinstance(image, jax.Array) else image


def _name(image: Any, number: int | None = None) -> str:
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return "picture" if number is None else f"item {number}"
