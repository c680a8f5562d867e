"""The predictors of a run: fixed weights, the checkpoints of a training, or a baseline.

The baseline is a kernel ridge on the cached features of the stage "heads": means and deviations of all levels of the
frozen ImageNet backbone over the whole image. The degradation encoder and the restorer are not used, so a row takes
seconds.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict, FrozenConfigDict
from scipy.linalg import cho_factor, cho_solve

from driqa_jax import distributed
from driqa_jax.checkpoints.load import load as load_model
from driqa_jax.checkpoints.weights import file_sha256, flatten, params_sha256, unflatten
from driqa_jax.data.source import Source
from driqa_jax.data.splits import select
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.probes import standardization
from driqa_jax.inference.provenance import describe
from driqa_jax.inference.scorer import load
from driqa_jax.io import write_bytes
from driqa_jax.models.driqa import build_model
from driqa_jax.protocol.plan import AS_FITTED, AS_IT_IS, PEEKED, DataSets, Run, TestSet
from driqa_jax.protocol.record import load_state, save_state
from driqa_jax.train import initialization
from driqa_jax.train.loop import Hooks, train
from driqa_jax.train.stages import frozen_features
from driqa_jax.train.stages.finetune import require_scores, view_rule
from driqa_jax.train.stages.registry import STAGES

WIDTHS = (0.5, 1.0, 2.0)  # of the kernel of the baseline
STRENGTHS = (1e-3, 1e-2, 1e-1)
BLOCK = 256
# (test set, its images) -> predicted MOS (N,) float64 in [0, 1].
Predict = Callable[[TestSet, Source], np.ndarray]


class Predictors(NamedTuple):
    """By checkpoint a predictor, and its sha256 and step; provenance; `code` of a training that a signal stopped."""

    predict: Mapping[str, Predict]
    checkpoints: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    code: int = 0


class Best:
    """A file with the parameters of the evaluation with the highest SRCC; the first one if several are equal."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def offer(self, step: int, params: dict, srcc: float | None) -> None:
        """Keep these parameters if they are better; an undefined SRCC (None, NaN) is worse than any number."""
        value = -math.inf if srcc is None or math.isnan(srcc) else srcc
        if self._path.exists() and value <= float(self._header()["srcc"]):
            return
        tensors = {name: np.asarray(array, order="C") for name, array in flatten(params).items()}
        if jax.process_index() == 0:
            write_bytes(self._path, safetensors.numpy.save(tensors, {"step": str(step), "srcc": repr(value)}))

    def load(self) -> tuple[int, dict]:
        """The step and the parameters, nested, float32."""
        return int(self._header()["step"]), unflatten(safetensors.numpy.load_file(self._path))

    def _header(self) -> dict[str, str]:
        with safetensors.safe_open(self._path, framework="numpy") as file:
            return file.metadata()


def fixed_model(weights: str) -> Predictors:
    """A bundled model, weights file or workdir, scored as `driqa score` does. Raises UserError as loading does."""
    scorer = load(weights, runtime="jax")

    def predict(test: TestSet, part: Source) -> np.ndarray:
        scores = []
        for result in scorer.stream(part.images(), names=part.column("image_id").tolist()):
            if result.error:
                raise UserError(f"{test.name}: {result.path}: {result.error}")
            scores.append(result.score / 100)
        return np.array(scores)

    keys = ("model", "variant", "effort", "view", "calibration")
    provenance = {key: value for key, value in describe(scorer).items() if key in keys}
    return Predictors({AS_IT_IS: predict}, {AS_IT_IS: {"sha256": scorer.sha256}}, provenance)


def train_run(run: Run, folder: pathlib.Path, parts: Mapping[TestSet, Source]) -> Predictors:
    """Train or resume, and return the requested checkpoints.

    parts: the images of the test sets. Raises UserError as `driqa_jax.train.loop.train` does, and if it returns 1.
    """
    config = ConfigDict(dict(run.config))
    if run.split and run.split.rule["kind"] != "official":
        run.split.save(folder / "split.json")
        config.data.split_file = str((folder / "split.json").resolve())
    workdir, stage = folder / "training", STAGES[config.stage]
    best = {name: Best(folder / f"{name}.safetensors") for name in run.checkpoints if name != "last"}
    own_test = next((test for test in parts if test.data is None), None)
    programs: dict[tuple, Callable] = {}

    def predict(params, test: TestSet, part: Source) -> np.ndarray:
        if test.canvas not in programs:
            # The saved configuration includes the degradation types of the initial weights.
            saved = ConfigDict(json.loads((workdir / "config.json").read_text()))
            saved.view.canvas = test.canvas or tuple(saved.view.canvas)
            programs[test.canvas] = stage.predict(saved, build_model(saved.model), distributed.make_mesh())
        return programs[test.canvas](params, part)[0]

    def on_eval(step, params, metrics):
        if "val_selected" in best:
            best["val_selected"].offer(step, params, metrics["val_srcc"])
        if PEEKED in best:
            part = parts[own_test]
            best[PEEKED].offer(step, params, srcc(predict(params, own_test, part), part.column("mos")))

    if "init" not in load_state(folder):
        save_state(folder, init=_sha256(config.init))
    code = train(FrozenConfigDict(config), str(workdir), Hooks(on_eval=on_eval))
    if code == 1:  # only this run failed: the others can continue
        raise UserError(f"{workdir}: loss or gradients were not finite; standard error names the step and the term")
    if code:
        return Predictors({}, {}, {}, code)
    params, metadata, _ = load_model(workdir)
    chosen = {"last": (metadata["provenance"]["step"], params)}
    chosen |= {name: kept.load() for name, kept in best.items()}
    return Predictors(
        {name: lambda test, part, params=params: predict(params, test, part) for name, (_, params) in chosen.items()},
        {name: {"step": step, "sha256": params_sha256(params)} for name, (step, params) in chosen.items()},
        {"view": view_provenance(config), "init": {"given_as": config.init, "sha256": load_state(folder)["init"]}},
    )


def view_provenance(config: ConfigDict) -> dict[str, Any]:
    """The view rule and canvas of a training's evaluations as plain values."""
    return {**view_rule(config, config.view.eval_tiles).to_dict(), "canvases": [list(config.view.canvas)]}


def _sha256(init: str) -> str | None:
    """Digest of the initial weights; None for fresh parameters."""
    if not init:
        return None
    return file_sha256(init) if os.path.isfile(init) else params_sha256(load_model(init).params)


class KernelRidge:
    """Kernel ridge regression with a Gaussian kernel and a free intercept.

    x: (N, C) features, standardized here. y: (N,) float64 targets. The Gaussian's `width` has the unit sqrt(C), which
    is about the distance of two standardized images over sqrt(2).
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._shift, self._scale = standardization(x)
        self._z, self._mean, self._error = (x - self._shift) * self._scale, y.mean(), y - y.mean()
        self._own = self._distances(self._z)

    def fit(self, width: float, strength: float) -> Callable[[np.ndarray], np.ndarray]:
        """A function from (M, C) to (M,)."""
        kernel = np.exp(-self._own / (2 * width**2))
        kernel[np.diag_indices_from(kernel)] += strength
        weights = cho_solve(cho_factor(kernel, lower=True, overwrite_a=True), self._error)

        def predict(x: np.ndarray) -> np.ndarray:
            distances = self._distances((x - self._shift) * self._scale)
            return np.exp(-distances / (2 * width**2)) @ weights + self._mean

        return predict

    def _distances(self, a: np.ndarray) -> np.ndarray:
        """Mean squared distances over features, (M, N)."""
        squares = [np.square(x).sum(axis=1) for x in (a, self._z)]
        return np.maximum(squares[0][:, None] + squares[1] - 2 * a @ self._z.T, 0.0) / a.shape[1]


def fit_ridge(run: Run, sets: DataSets) -> Predictors:
    """Fit on the run's training part; the SRCC on its validation part selects width and strength.

    Raises UserError if an image has no score, or as `frozen_features.encoders` does.
    """
    config = initialization.with_model(ConfigDict(dict(run.config)))
    model, encoders = build_model(config.model), frozen_features.encoders(config)

    def moments(source: Source, canvas: tuple[int, ...] = ()) -> np.ndarray:
        changed = ConfigDict(config.to_dict())
        changed.view.canvas = canvas or tuple(config.view.canvas)
        kept = frozen_features.KeptFeatures(changed, model, encoders, source)
        rows = [np.arange(len(source))[i : i + BLOCK] for i in range(0, len(source), BLOCK)]
        return np.concatenate([kept.read(each)["moments"] for each in rows]).astype(np.float64)

    data = run.config["data"]
    source = run.split.assigned(sets.open(data))
    fit, val = (select(source, data[part], data["fold"], data["min_mos"] or None) for part in ("train", "val"))
    for part in (fit, val):
        require_scores(part)
    ridge, val_moments = KernelRidge(moments(fit), fit.column("mos").astype(np.float64)), moments(val)
    fits = {(width, strength): ridge.fit(width, strength) for width in WIDTHS for strength in STRENGTHS}
    val_srcc = {chosen: srcc(predict(val_moments), val.column("mos")) for chosen, predict in fits.items()}
    # An undefined SRCC (None) is worse than any number.
    best = max(val_srcc, key=lambda chosen: -2.0 if val_srcc[chosen] is None else val_srcc[chosen])
    return Predictors(
        {AS_FITTED: lambda test, part: fits[best](moments(part, test.canvas))},
        {AS_FITTED: {"sha256": params_sha256(encoders["quality_encoder"]["backbone"])}},
        {"ridge": {"width": best[0], "strength": best[1], "val_srcc": val_srcc[best]}, "view": view_provenance(config)},
    )
