"""The scorer: images to scores from 0 to 100."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from driqa_jax.checkpoints.load import load as load_model
from driqa_jax.checkpoints.weights import Params, file_sha256, params_sha256
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.raw import DECODED
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UserError, reason
from driqa_jax.inference.calibration import Calibration, OwnScale, fit_own_scale
from driqa_jax.inference.conformal import Evidence, Interval, evidence, tile_spread
from driqa_jax.inference.effort import look
from driqa_jax.inference.explain import SHOWN_PIXELS, Explainer, Explanation, Finding
from driqa_jax.inference.findings import codes
from driqa_jax.inference.onnx_executor import OnnxExecutor, OnnxModel
from driqa_jax.inference.runtime import onnx_for
from driqa_jax.inference.stream import (
    PAUSE,
    ModelFailure,
    Pause,
    View,
    as_several,
    named,
    predictions_in_order,
    views_in_order,
)

if TYPE_CHECKING:
    import jax

    from driqa_jax.inference.jax_executor import JaxExecutor


@dataclasses.dataclass(frozen=True)
class Result:
    """One image: its path or name, and its score from 0 to 100 or the error.

    `uncertainty`: half-width, in points, of the interval that covers the human score of nine in ten images like those
    of the validation set. It is wider when per-tile scores disagree, and for images smaller than the tiles. None if
    the model has no interval (`driqa export` fits one). `internal`: the program or the machine caused the error, not
    the image. `decoded`: "preview" or "developed" for a raw photo, see `driqa_jax.data.raw`. `reasons`: of a scorer
    with `reasons`, the codes of what stands out, see `driqa_jax.inference.findings.GROUPS`; else None.
    """

    path: str
    score: float | None
    error: str | None = None
    uncertainty: float | None = None
    internal: bool = False
    decoded: str | None = None
    reasons: tuple[str, ...] | None = None


class _Shown(NamedTuple):
    """What is kept of an image beside its view."""

    evidence: Evidence
    decoded: str | None
    prominence: np.ndarray | None = None  # (T,), with `reasons`


class Scorer:
    """Scores images with one model on one device.

    A score is the calibrated 100 * MOS on the training scale, from 0 to 100, rounded to .01; higher is better. It
    depends only on the image, not on the order, the rest of the batch or the run.

    Args:
      model: a module, or a function that returns it, called only to compile; `model.apply({"params": params},
        whole, valid, tiles, tile_boxes, per_tile=True)` gives `(mos, out)` as `driqa_jax.models.driqa.DRIQA` does.
      params: its parameters, a nested dict of float32 arrays, or a function that returns them.
      metadata: from `load_weights`; `view`, `calibration`, `interval`, `degradations` and `config` are read.
      batch_size: images per device call; None is 1 on a CPU and 16 elsewhere.
      workers: decoding threads.
      max_pixels: larger images are refused.
      name, sha256: identify the weights in the provenance.
      device: where to compute; None is the first device.
      effort: "fast", "default" or "accurate", see `driqa_jax.inference.effort.look`.
      cache: folder of compiled programs; requires `metadata["config"]` to describe the model fully. None disables it.
      onnx: the same model as an ONNX file, which then computes scores and explanations instead of JAX.
      reasons: whether results name what stands out, from the tiles that the score reads; it costs a small product. A
        model without `stages` must give `degradation_logits` (B, T) in `out`.

    Raises ValueError for an argument out of range, and UserError for `reasons` of a model that names no degradation.
    """

    def __init__(
        self,
        model: Any,
        params: Params | Callable[[], Params],
        metadata: Mapping[str, Any],
        batch_size: int | None = None,
        workers: int = 2,
        max_pixels: float = 200e6,
        name: str = "",
        sha256: str | None = None,
        device: jax.Device | None = None,
        effort: str = "default",
        cache: pathlib.Path | None = None,
        onnx: OnnxModel | None = None,
        reasons: bool = False,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.metadata, self.name = dict(metadata), name
        self.look = look(ViewRule.from_dict(self.metadata.get("view") or {}), effort)
        self.effort, self.rule = effort, self.look.rule
        self.own_scale: OwnScale | None = None
        self.calibration = Calibration.from_dict(self.metadata.get("calibration"))
        interval = self.metadata.get("interval")
        self.interval = Interval.from_dict(interval) if interval else None
        self.degradations = tuple(self.metadata.get("degradations") or ())
        if reasons and not self.degradations:
            raise UserError(f"{name or 'the model'}: has no names of degradations, so it cannot give reasons")
        self._count_named = len(self.degradations) if reasons else 0
        self.workers, self.max_pixels = workers, max_pixels
        self._model, self._params, self._place = model, params, (device, cache, reasons)
        self.executor: Any = OnnxExecutor(onnx, self.look.mirror, reasons) if onnx else self.jax_executor
        self.sha256 = sha256 or params_sha256(self.params)
        self.batch_size = batch_size or self.executor.batch_size

    @functools.cached_property
    def jax_executor(self) -> JaxExecutor:
        """What computes in JAX: everything, or with `onnx` only `apply`, `quality_loss`, `model` and `params`."""
        from driqa_jax.inference.jax_executor import JaxExecutor

        params = self._params() if callable(self._params) else self._params
        return JaxExecutor(self._model, params, self.metadata.get("config"), self.look, *self._place)

    @property
    def model(self) -> Any:
        """The module."""
        return self.jax_executor.model

    @property
    def params(self) -> Params:
        """Its parameters, on the device."""
        return self.jax_executor.params

    def __call__(self, images: Any) -> float | np.ndarray:
        """The score of one image (float) or of several ((N,) float64).

        One image is anything that `decode` reads: a path, encoded bytes, an open file, a PIL image, an array (H, W) or
        (H, W, 3), ... Several are an iterable of those or an array (N, H, W, C).

        Raises UnreadableImage or ValueError, naming the image, at the first failure; `stream` continues instead.
        """
        images, several = as_several(images)
        scores: list[Any] = [self._result(*outcome).score for outcome in self._predictions(images)]
        return np.array(scores, np.float64) if several else scores[0]

    def predict(self, images: Iterable[ImageSource]) -> Iterator[float]:
        """Uncalibrated, unrounded MOS of each image in input order; raises as a call does."""
        for predictions, _ in self.predict_parts(images):
            yield float(predictions[0])

    def predict_parts(self, images: Iterable[ImageSource]) -> Iterator[tuple[np.ndarray, Evidence]]:
        """Per image, (1 + K,) float32: the MOS as in `predict`, then the per-tile MOS; and the evidence."""
        for _, shown, predictions in self._predictions(images):
            yield predictions, shown.evidence

    def attempt_parts(self, images: Iterable[ImageSource]) -> Iterator[tuple[np.ndarray, Evidence] | Exception]:
        """`predict_parts`, but an image that fails gives its exception and the others continue."""
        for _, shown, outcome in self._outcomes(named(images, None)):
            yield outcome if isinstance(outcome, Exception) else (outcome, shown.evidence)

    def calibrate(self, scores: np.ndarray, own_mos: np.ndarray, scale: tuple[float, float] | None = None) -> Scorer:
        """A copy of this scorer that scores on the user's scale.

        Args:
          scores: (N,), this scorer's scores of at least 10 images.
          own_mos: (N,), the user's ratings of them, higher is better.
          scale: lowest and highest possible rating; None takes those of `own_mos`. The order of images stays, except
            that scores are clipped to the scale.

        Raises:
          ValueError: ratings are too few, do not rise with the scores, or lie outside the scale.
        """
        if self.own_scale is not None:
            raise ValueError("this scorer is already on a user scale; call calibrate on the original scorer")
        calibrated = copy.copy(self)
        calibrated.own_scale = fit_own_scale(scores, own_mos, scale)
        return calibrated

    def stream(self, images: Iterable[ImageSource | Pause], names: Iterable[str] | None = None) -> Iterator[Result]:
        """A `Result` for every image, in input order, as soon as it is known; the input may be endless.

        Args:
          images: as in a call. An UnreadableImage stands for an image that already failed.
            `driqa_jax.inference.stream.PAUSE` finishes all earlier images before the next is read.
          names: `Result.path` of each image; None uses its path or "item i".

        An image that cannot be scored has the error in its result; the others continue.
        """
        for name, shown, outcome in self._outcomes(named(images, names)):
            if not isinstance(outcome, Exception):
                try:
                    yield self._result(name, shown, outcome)
                    continue
                except ValueError as error:
                    outcome = error
            yield Result(name, None, reason(outcome, name), internal=isinstance(outcome, ModelFailure))

    def explain(
        self, image: ImageSource, name: str | None = None, shown_pixels: float = SHOWN_PIXELS, restore: bool = True
    ) -> Explanation:
        """Explain the score of one image, see `driqa_jax.inference.explain.Explanation`; raises as a call does.

        Args:
          image: as in a call.
          name: `Explanation.name`; None uses the path.
          shown_pixels: larger images are reduced before they are restored and shown. The score, the map and the
            degradations always describe the whole image.
          restore: whether to compute the restored image, which takes most of the time.
        """
        return self._explainer(image, name, shown_pixels, restore)

    def features(self, images: Any) -> dict[str, np.ndarray]:
        """Degradation vectors `d` (N, C) and quality vectors `q` (N, Q), float32, of images as in a call.

        Raises as a call does, and ValueError for no image.
        """
        return self._explainer.features(as_several(images)[0])

    def findings(self, images: Iterable[ImageSource]) -> Iterator[tuple[Finding, ...] | Exception]:
        """The degradations of each image as in `explain`, in input order; an exception for an unreadable image."""
        return self._explainer.findings(images)

    def apply(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Uncalibrated MOS and intermediates of images in JAX, for `jax.jit` and `jax.grad`.

        Args:
          images: (B, H, W, 3) float in [0, 1], sRGB.

        Returns:
          mos (B,) float32 on the training scale, equal to `predict`, and `out`, see `driqa_jax.models.driqa.DRIQA`.
          With effort "accurate", mos is averaged over each image and its mirror image, and `out` describes the image.
          The gradient ignores the 8-bit rounding of views (straight-through estimator).

        Raises:
          ValueError: images have another shape or dtype.
        """
        return self.jax_executor.apply(images)

    def quality_loss(self) -> Callable[[jax.Array], jax.Array]:
        """`driqa_jax.losses.quality_loss` for this model and calibration: `loss(images)`, 1 - mean score / 100."""
        from driqa_jax.inference.functional import loss_of

        return loss_of(self.apply, self.calibration)

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self)

    def _predictions(self, images: Iterable[ImageSource]) -> Iterator[tuple[str, Any, Any]]:
        """`_outcomes`, raising at the first exception."""
        for name, shown, outcome in self._outcomes(named(images, None)):
            if isinstance(outcome, Exception):
                raise outcome
            yield name, shown, outcome

    def _outcomes(self, named: Iterable[tuple[str, ImageSource] | Pause]) -> Iterator[tuple[str, Any, Any]]:
        """(name, `_Shown`, predictions) or (name, None, exception) per image."""
        views: Any = map(_with_evidence, views_in_order(named, self._view, self.workers))
        outcomes: Any = predictions_in_order(views, self.executor.predictions, self.batch_size, self.executor.parallel)
        for (name, shown), outcome in outcomes:
            if self._count_named and shown and not isinstance(outcome, Exception):
                outcome, prominence = np.split(outcome, [-self._count_named])
                shown = shown._replace(prominence=prominence)
            yield name, shown, outcome

    def _view(self, name: str, source: ImageSource) -> Any:
        """(views, `_Shown`) of one image."""
        if isinstance(source, Exception):
            raise source

        def view(image: Image.Image) -> tuple[View, _Shown]:
            shown = _Shown(evidence(image.height, image.width, self.rule), image.info.get(DECODED))
            return make_view(image, self.rule), shown

        return decode(source, self.max_pixels, name, use=view)

    def _result(self, name: str, shown: _Shown, predictions: np.ndarray) -> Result:
        if not np.isfinite(predictions).all():
            raise ValueError(f"{name}: the model gave {predictions[0]}")
        points = np.clip(self.calibration(predictions.astype(np.float64)) * 100.0, 0.0, 100.0)
        half = 0.0 if self.interval is None else 100.0 * self.interval(tile_spread(points[1:] / 100.0), shown.evidence)
        low, score, high = points[0] + half * np.array([-1.0, 0.0, 1.0])
        if self.own_scale is not None:
            low, score, high = self.own_scale(np.array([low, score, high]))
        # A user scale is nonlinear and bounded, so the two sides differ; report the wider one.
        uncertainty = None if self.interval is None else round(float(max(score - low, high - score)), 2)
        reasons = None if shown.prominence is None else codes(self.degradations, shown.prominence)
        return Result(name, round(float(score), 2), uncertainty=uncertainty, decoded=shown.decoded, reasons=reasons)


def load(model: str | os.PathLike = "lite", runtime: str = "auto", **options: Any) -> Scorer:
    """The scorer of a bundled model (by name), a weights file (.safetensors), a training's workdir, or an ONNX file.

    Args:
      model: the name or the path. An ONNX file must read views, see docs/EXPORT.md.
      runtime: "jax", "onnx" or "auto", see `driqa_jax.inference.runtime.onnx_for`.
      options: those of `Scorer`: effort, batch_size, workers, max_pixels, device. Programs are kept in the user's cache
        folder (see `driqa_jax.compile_cache`).

    Raises UserError saying what is wrong with the file, or which names there are.
    """
    name = os.fspath(model)
    onnx = onnx_for(name, runtime, options.get("effort", "default"), options.get("device"))
    if onnx is not None:
        weights = functools.cache(functools.partial(load_model, name))  # for JAX, on first use
        build, params = (lambda: weights().build()), (lambda: weights().params)
        return Scorer(build, params, onnx.metadata, name=name, sha256=onnx.sha256, onnx=onnx, **options)
    from driqa_jax.inference.jax_executor import checked_model

    options = {"cache": enable_compile_cache(), **options}
    loaded = load_model(model)
    sha256 = file_sha256(loaded.file) if loaded.file else None
    net = checked_model(loaded, name, options["cache"])
    return Scorer(net, loaded.params, loaded.metadata, name=name, sha256=sha256, **options)


def _with_evidence(item: Any) -> Any:
    """An item of `views_in_order` with `_Shown` moved beside the name, since the device does not read it."""
    if item is PAUSE:
        return item
    name, outcome = item
    view, shown = (outcome, None) if isinstance(outcome, Exception) else outcome
    return (name, shown), view
