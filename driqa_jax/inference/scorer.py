"""The scorer: pictures in, scores from 0 to 100 out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.checkpoints.weights import (
    Params,
    WeightsError,
    bundled,
    bundled_files,
    check_tensors,
    decode_metadata,
    file_sha256,
    flatten,
    load_weights,
    params_sha256,
)
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.errors import UnreadableImage
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.inference.calibration import Calibration, OwnScale, fit_own_scale
from driqa_jax.inference.conformal import Interval, tile_spread
from driqa_jax.inference.effort import look
from driqa_jax.inference.executables import Program
from driqa_jax.inference.explain import SHOWN_PIXELS, Explainer, Explanation
from driqa_jax.inference.program import make_stages
from driqa_jax.inference.stream import PAUSE, Pause, View, predictions_in_order, views_in_order

# On a CPU a batch is not faster than its pictures one by one, and a lone picture need not wait for company.
_BATCH = {"cpu": 1}
_BATCH_ON_ACCELERATORS = 16
_MOST_PARALLEL = 8  # each program at work holds its activations


@dataclasses.dataclass(frozen=True)
class Result:
    """One picture: its path (or name), its score from 0 to 100, or why it has none.

    `uncertainty`: half the width, in points, of the interval around the score that holds the human score of nine in
    ten pictures like those the model was validated on; wider where the picture's tiles tell different tales. None
    where the model has no such interval: `driqa export` fits one.
    """

    path: str
    score: float | None
    error: str | None = None
    uncertainty: float | None = None


class Scorer:
    """Scores pictures with one model on one device.

    A score is 100 * MOS on the scale that the model was trained on, calibrated, from 0 to 100, rounded to
    .01; higher is better. It depends on the picture alone: not on the order, the neighbours or the run.

    Args:
      model: a module; `model.apply({"params": params}, whole, valid, tiles, tile_boxes, per_tile=True)` gives `(mos,
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
        self.effort, self.rule = effort, looked.rule
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
            identity=[_plain(self.metadata.get("config")), looked.mirror, on_cpu],
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
        scores = []
        for name, outcome in self._outcomes(_named(images if several else [images], None)):
            if isinstance(outcome, Exception):
                raise outcome
            scores.append(self._result(name, outcome).score)
        return np.array(scores, np.float64) if several else scores[0]

    def predict(self, images: Iterable[ImageSource]) -> Iterator[float]:
        """The model's own MOS of each picture, not calibrated, not rounded, in input order; raises as a call does."""
        for found in self.predict_parts(images):
            yield float(found[0])

    def predict_parts(self, images: Iterable[ImageSource]) -> Iterator[np.ndarray]:
        """As `predict`, float32 (1 + K,) each: of the picture, then of it with each of its K tiles alone."""
        for _, outcome in self._outcomes(_named(images, None)):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

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
        for name, outcome in self._outcomes(_named(images, names)):
            if isinstance(outcome, Exception):
                yield Result(name, None, _reason(outcome, name))
                continue
            try:
                yield self._result(name, outcome)
            except ValueError as error:
                yield Result(name, None, _reason(error, name))

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

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self)

    def _outcomes(self, named):
        views = views_in_order(named, self._see, self.workers)
        return predictions_in_order(views, self._run, self.batch_size, self.parallel)

    def _see(self, name: str, source: ImageSource) -> View:
        if isinstance(source, Exception):
            raise source
        return decode(source, self.max_pixels, name, use=lambda image: make_view(image, self.rule))

    def _run(self, batch: View) -> jax.Array:
        found = self._program(self.params, batch)
        # Elsewhere the thread that launched a program is free while the device computes.
        return jax.block_until_ready(found) if self.device.platform == "cpu" else found

    def _result(self, name: str, predictions: np.ndarray) -> Result:
        if not np.isfinite(predictions).all():
            raise ValueError(f"{name}: the model gave {predictions[0]}")
        points = np.clip(self.calibration(predictions.astype(np.float64)) * 100.0, 0.0, 100.0)
        half = 0.0 if self.interval is None else 100.0 * self.interval(tile_spread(points[1:] / 100.0))
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
    from driqa_jax.models.driqa import build_model

    options = {"cache": enable_compile_cache(), **options}
    said, path = os.fspath(model), pathlib.Path(model)
    if said not in bundled_files() and path.is_dir():
        from driqa_jax.checkpoints.manager import load_for_scoring

        params, header = load_for_scoring(path)
        metadata = decode_metadata(header, path)
        return Scorer(build_model(model_config(metadata, path)), params, metadata, name=said, **options)
    if said in bundled_files() or (path.suffix != ".safetensors" and not path.exists()):
        # A test has checked the tensors of these against the model; tracing it costs a second a start.
        file = bundled(said)
        params, metadata = load_weights(file)
        net = build_model(model_config(metadata, file))
    else:
        file = path
        params, metadata = load_weights(file)
        net = build_model(model_config(metadata, file))
        check_tensors(file, flatten(params), flatten(expected_params(net, ViewRule.from_dict(metadata["view"]))))
    return Scorer(net, params, metadata, name=said, sha256=file_sha256(file), **options)


def model_config(metadata: Mapping[str, Any], path: str | os.PathLike = "weights") -> ml_collections.ConfigDict:
    """The model's configuration out of weights' metadata. Raises WeightsError for an unknown variant."""
    from driqa_jax.models.driqa import VARIANTS

    config = ml_collections.ConfigDict(metadata["config"])
    config = config.get("model", config)  # a training's whole configuration, or the model's part of it
    if config.get("variant") not in VARIANTS:
        raise WeightsError(
            f"{path}: a model of the variant {config.get('variant')!r}; "
            f"this version of driqa_jax has {sorted(VARIANTS)}"
        )
    return config


def expected_params(model: Any, rule: ViewRule) -> Params:
    """Names and shapes of the parameters of a model, without computing any."""
    height, width = rule.canvases[0]
    shapes = {
        "whole": ((1, height, width, 3), jnp.float32),
        "valid": ((1, 2), jnp.int32),
        "tiles": ((1, rule.tiles, rule.tile, rule.tile, 3), jnp.float32),
        "tile_boxes": ((1, rule.tiles, 4), jnp.float32),
    }
    views = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes.values()]
    return jax.eval_shape(model.init, jax.random.key(0), *views)["params"]


def _plain(config: Any) -> Any:
    return config.to_dict() if hasattr(config, "to_dict") else config


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_several(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim == 4
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "read"):
        return False
    return isinstance(images, Iterable)


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


def _reason(error: Exception, name: str) -> str:
    """One line without the path, which stands beside it."""
    if isinstance(error, UnreadableImage):
        said = error.reason
    elif isinstance(error, MemoryError):
        said = "too large for this machine's memory"
    else:
        said = str(error).removeprefix(f"{name}: ")
    return " ".join(said.split())
