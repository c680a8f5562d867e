"""The scorer: pictures in, scores from 0 to 100 out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from driqa_jax.checkpoints.load import load as load_model
from driqa_jax.checkpoints.load import require_params
from driqa_jax.checkpoints.weights import Params, bundled_files, file_sha256, params_sha256
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UnreadableImage, reason
from driqa_jax.inference.calibration import Calibration, OwnScale, fit_own_scale
from driqa_jax.inference.conformal import Evidence, Interval, evidence, tile_spread
from driqa_jax.inference.effort import look
from driqa_jax.inference.executables import Program
from driqa_jax.inference.explain import SHOWN_PIXELS, Explainer, Explanation
from driqa_jax.inference.functional import plain_config, predict
from driqa_jax.inference.program import make_stages
from driqa_jax.inference.stream import PAUSE, ModelFailure, Pause, View, predictions_in_order, views_in_order
from driqa_jax.models.driqa import build_model

# On a CPU a batch is not faster than its pictures one by one, and a lone picture need not wait for company.
_BATCH = {"cpu": 1}
_BATCH_ON_ACCELERATORS = 16
_MOST_PARALLEL = 8  # each program at work holds its activations


@dataclasses.dataclass(frozen=True)
class Result:
    """One picture: its path (or name), its score from 0 to 100, or why it has none.

    `uncertainty`: half the width, in points, of the interval around the score that holds the human score of nine in
    ten pictures like those the model was validated on; wider where the scores of the picture's tiles disagree, and the
    more so the less of a picture there is to see: widest below the tile's size. None where the model has no such
    interval: `driqa export` fits one. `internal`: the error is a fault of the program or the
    machine, not of the image.
    """

    path: str
    score: float | None
    error: str | None = None
    uncertainty: float | None = None
    internal: bool = False


class Scorer:
    """Scores pictures with one model on one device.

    A score is 100 * MOS on the scale that the model was trained on, calibrated, from 0 to 100, rounded to
    .01; higher is better. It depends on the picture alone: not on the order, the neighbours or the run.

    Args:
      model: a module; `model.apply({"params": params}, whole, valid, tiles, tile_boxes, alone=True)` gives `(mos,
        out)` as `driqa_jax.models.driqa.DRIQA` does.
      params: its parameters, a nested dict of float32 arrays.
      metadata: as `load_weights` gives it; `view`, `calibration` and `interval` are used, `degradations` is passed on.
      effort: "fast", "default" or "accurate"; `driqa_jax.inference.effort.look` says how each looks.
      batch_size: pictures per call of the device; None: 1 on a CPU, 16 elsewhere.
      workers: threads that decode.
      max_pixels: pictures with more are refused.
      name, sha256: of the weights, for provenance.
      device: where to compute; None: the first.
      cache: a folder for compiled programs, where `metadata["config"]` says all about the model; None: none.
    """

    def __init__(
        self,
        model: Any,
        params: Params,
        metadata: Mapping[str, Any],
        batch_size: int | None = None,
        workers: int = 2,
        max_pixels: float = 200e6,
        name: str = "",
        sha256: str | None = None,
        device: jax.Device | None = None,
        effort: str = "default",
        cache: pathlib.Path | None = None,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.model, self.metadata, self.name = model, dict(metadata), name
        looked = look(ViewRule.from_dict(self.metadata.get("view") or {}), effort)
        self.effort, self.rule, self._mirror = effort, looked.rule, looked.mirror
        self.own_scale: OwnScale | None = None
        self.calibration = Calibration.from_dict(self.metadata.get("calibration"))
        interval = self.metadata.get("interval")
        self.interval = Interval.from_dict(interval) if interval else None
        self.degradations = tuple(self.metadata.get("degradations") or ())
        self.workers, self.max_pixels = workers, max_pixels
        self.device = jax.devices()[0] if device is None else device
        self.batch_size = batch_size or _BATCH.get(self.device.platform, _BATCH_ON_ACCELERATORS)
        self.sha256 = sha256 or params_sha256(params)
        self.params = jax.device_put(params, self.device)
        on_cpu = self.device.platform == "cpu"
        self.parallel = min(_cores(), _MOST_PARALLEL) if on_cpu else 1
        self._program = Program(
            make_stages(model, looked.mirror, on_cpu),
            self.device,
            cache,
            identity=[plain_config(self.metadata.get("config")), looked.mirror, on_cpu],
        )

    def __call__(self, images: Any) -> float | np.ndarray:
        """The score of one picture, a float, or of several, float64 (N,).

        One picture is whatever `decode` reads: a path, encoded bytes, an open file, a PIL image, an array (H,
        W), (H, W, 3), ... ; several are a list or tuple of those, an iterator, or an array (N, H, W, C).

        Raises UnreadableImage or ValueError, naming the picture, at the first that cannot be scored; `stream`
        goes on.
        """
        if isinstance(images, jax.Array):
            images = np.asarray(images)
        several = _is_several(images)
        scores = [self._result(*found).score for found in self._predictions(images if several else [images])]
        return np.array(scores, np.float64) if several else scores[0]

    def predict(self, images: Iterable[ImageSource]) -> Iterator[float]:
        """The model's own MOS of each picture, not calibrated, not rounded, in input order; raises as a call does."""
        for found, _ in self.predict_parts(images):
            yield float(found[0])

    def predict_parts(self, images: Iterable[ImageSource]) -> Iterator[tuple[np.ndarray, Evidence]]:
        """As `predict`, float32 (1 + K,) each: of the picture, then of each of its K tiles alone; and the evidence."""
        for _, seen, predictions in self._predictions(images):
            yield predictions, seen

    def calibrate(self, scores: np.ndarray, own_mos: np.ndarray, scale: tuple[float, float] | None = None) -> Scorer:
        """A scorer like this one whose scores are on one's own scale.

        scores: (N,), what this scorer gives to at least 10 pictures; own_mos: (N,), one's own ratings of them,
        higher is better; scale: the lowest and the highest rating that the scale has, None: that were given. No
        order of pictures changes, but that scores end where the scale does.

        Raises ValueError for ratings that do not rise with the scores, that lie outside the scale, or are too few.
        """
        if self.own_scale is not None:
            raise ValueError("this scorer is on a scale of one's own already; calibrate the one that it was made of")
        mine = copy.copy(self)
        mine.own_scale = fit_own_scale(scores, own_mos, scale)
        return mine

    def stream(self, images: Iterable[ImageSource | Pause], names: Iterable[str] | None = None) -> Iterator[Result]:
        """A `Result` for every picture, in input order, as they are done; the input may be endless.

        `names`: what `Result.path` shall say, one a picture; default: its path, or "item i". A picture that
        cannot be scored has an error in its result, and the rest goes on; an UnreadableImage in place of a
        picture stands for one that was lost before. With `driqa_jax.inference.stream.PAUSE` among the pictures, what
        came before is finished before the next is asked for.
        """
        for name, seen, outcome in self._outcomes(_named(images, names)):
            if not isinstance(outcome, Exception):
                try:
                    yield self._result(name, seen, outcome)
                    continue
                except ValueError as error:
                    outcome = error
            yield Result(name, None, reason(outcome, name), internal=isinstance(outcome, ModelFailure))

    def explain(
        self,
        image: ImageSource,
        name: str | None = None,
        shown_pixels: float = SHOWN_PIXELS,
        restore: bool = True,
    ) -> Explanation:
        """Why one picture has its score; see `driqa_jax.inference.explain.Explanation`.

        `name`: what the explanation shall call it; default: its path. `shown_pixels`: a picture with more is reduced
        before it is restored and shown (the score, the map and the degradations are of the whole picture).
        `restore=False`: without the restored picture, which takes most of the time. Equal pictures give equal bytes.
        Raises as a call does.
        """
        return self._explainer(image, name, shown_pixels, restore)

    def features(self, images: Any) -> dict[str, np.ndarray]:
        """Degradation vectors `d` and quality vectors `q`, float32 (N, C) each, of one picture or of several.

        `images` as in a call. Raises as a call does, and ValueError where there is no picture.
        """
        if isinstance(images, jax.Array):
            images = np.asarray(images)
        return self._explainer.features(images if _is_several(images) else [images])

    def apply(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """MOS of images, before calibration, and every intermediate, in JAX, for `jax.jit` and `jax.grad`.

        Args:
          images: (B, H, W, 3) float in [0, 1], sRGB, all of one size.

        Returns:
          mos (B,) float32 on the training scale, what `predict` gives for the same images, and `out`, see
          `driqa_jax.models.driqa.DRIQA`. With effort "accurate" mos is the mean over an image and its mirror image,
          and `out` is of the image itself. The gradient passes through the views' 8-bit rounding as if nothing were
          rounded.

        Raises:
          ValueError: images of another shape or dtype.
        """
        return self._applied(self.params, images)

    def quality_loss(self) -> Callable[[jax.Array], jax.Array]:
        """`driqa_jax.losses.quality_loss` of this model and its calibration: `loss(images)`, 1 - mean score / 100."""
        from driqa_jax.inference.quality_loss import loss_of

        return loss_of(self.apply, self.calibration)

    @functools.cached_property
    def _applied(self):
        return jax.jit(lambda params, images: predict(self.model, params, images, self.rule, self._mirror))

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self)

    def _predictions(self, images):
        """As `_outcomes`, but raises at the first exception."""
        for name, seen, outcome in self._outcomes(_named(images, None)):
            if isinstance(outcome, Exception):
                raise outcome
            yield name, seen, outcome

    def _outcomes(self, named):
        """(name, evidence, predictions), or (name, None, exception), of each picture."""
        views = map(_labelled, views_in_order(named, self._see, self.workers))
        for (name, seen), outcome in predictions_in_order(views, self._run, self.batch_size, self.parallel):
            yield name, seen, outcome

    def _see(self, name: str, source: ImageSource) -> tuple[View, Evidence]:
        if isinstance(source, Exception):
            raise source

        def see(image):
            return make_view(image, self.rule), evidence(image.height, image.width, self.rule)

        return decode(source, self.max_pixels, name, use=see)

    def _run(self, batch: View) -> jax.Array:
        found = self._program(self.params, batch)
        # Elsewhere the thread that launched a program is free while the device computes.
        return jax.block_until_ready(found) if self.device.platform == "cpu" else found

    def _result(self, name: str, seen: Evidence, predictions: np.ndarray) -> Result:
        if not np.isfinite(predictions).all():
            raise ValueError(f"{name}: the model gave {predictions[0]}")
        points = np.clip(self.calibration(predictions.astype(np.float64)) * 100.0, 0.0, 100.0)
        half = 0.0 if self.interval is None else 100.0 * self.interval(tile_spread(points[1:] / 100.0), seen)
        low, score, high = points[0] + half * np.array([-1.0, 0.0, 1.0])
        if self.own_scale is not None:
            low, score, high = self.own_scale(np.array([low, score, high]))
        # A scale of one's own is bent, and has ends: the wider side is told.
        uncertainty = None if self.interval is None else round(float(max(score - low, high - score)), 2)
        return Result(name, round(float(score), 2), uncertainty=uncertainty)


def load(model: str | os.PathLike = "lite", **options: Any) -> Scorer:
    """The scorer of a bundled model (by name), a weights file (.safetensors), or a training's workdir.

    `options` are those of `Scorer`: effort, batch_size, workers, max_pixels, device. Programs are kept in the user's
    cache folder (see `driqa_jax.compile_cache`). Raises WeightsError saying what is wrong with the file, or
    which names there are.
    """
    options = {"cache": enable_compile_cache(), **options}
    loaded, name = load_model(model), os.fspath(model)
    net = build_model(loaded.config)
    if loaded.file is None:
        return Scorer(net, loaded.params, loaded.metadata, name=name, **options)
    if loaded.file != bundled_files().get(name):
        # A test has checked the bundled weights; tracing the model to check them takes a second.
        require_params(loaded, net)
    return Scorer(net, loaded.params, loaded.metadata, name=name, sha256=file_sha256(loaded.file), **options)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_several(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim == 4
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read"):
        return False
    return isinstance(images, Iterable)


def _labelled(item):
    """What `views_in_order` yields, the evidence beside the name: the device does not read it."""
    if item is PAUSE:
        return item
    name, found = item
    view, seen = (found, None) if isinstance(found, Exception) else found
    return (name, seen), view


def _named(images: Iterable[ImageSource], names: Iterable[str] | None) -> Iterator[tuple[str, ImageSource] | Pause]:
    if names is not None:
        yield from zip(names, images, strict=True)
        return
    count = 0
    for image in images:
        if image is PAUSE:
            yield PAUSE
            continue
        if isinstance(image, (str, os.PathLike)):
            yield os.fspath(image), image
        else:
            yield image.path if isinstance(image, UnreadableImage) else f"item {count}", image
        count += 1
