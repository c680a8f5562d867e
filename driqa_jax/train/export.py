"""Exports a training run as a calibrated weights file, and a model as a program for JAX or ONNX Runtime alone."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from driqa_jax.checkpoints.load import load as load_model
from driqa_jax.checkpoints.load import model_config
from driqa_jax.checkpoints.weights import bundled_files, file_sha256, save_weights
from driqa_jax.data.source import Source
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import plcc, srcc
from driqa_jax.inference.calibration import FEWEST as FEWEST_TO_CALIBRATE
from driqa_jax.inference.calibration import IDENTITY, fit_calibration
from driqa_jax.inference.conformal import FEWEST, Evidence, fit_interval, lacking, tile_spread
from driqa_jax.inference.exports import stablehlo
from driqa_jax.inference.scorer import Scorer, load
from driqa_jax.models.driqa import build_model
from driqa_jax.progress import ProgressFn, silent
from driqa_jax.train.config import migrate_config


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    licence: str,
    data_path: str | None = None,
    progress: ProgressFn = silent,
    average: str | os.PathLike | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write the newest checkpoint of a finetuning run as a weights file. The result is deterministic.

    The validation fold is scored with the float16 parameters of the file and the view of scoring. The calibration is
    fitted on these scores, and so is the interval if the fold has at least `conformal.FEWEST` images. With too few
    images, or if predictions do not rise with MOS, the file has no calibration: a score is then 100 times the predicted
    MOS.

    Args:
      out: the file, `.safetensors`.
      licence: of the weights, one line for the header.
      data_path: where the run's data are now; None: where they were in training.
      progress: called with ("validation", images done, images in total).
      average: workdir of another run of the same model on the same data and fold, such as the one that this run started
        from: the mean of both parameters is written. Source: Wortsman et al., "Robust fine-tuning of zero-shot models",
        CVPR 2022.
      warn: called with a line about what the file lacks.

    Returns `sha256` of the file and, on validation, `n`, `srcc`, `plcc` (None where not defined), `mae` (MOS, 0 to 1)
    and `mae_calibrated`.

    Raises UserError if `workdir` is not a run, the run has no MOS predictor, or its data cannot be opened.
    """
    if is_weights(workdir):
        raise UserError(
            f"{workdir}: this is already a calibrated weights file with a licence; copy it. A .safetensors file is "
            f"made from a training's workdir, a program from any model"
        )
    from driqa_jax.train.loop import sources

    params, metadata, run = _load_run(workdir)
    _require_predictor(params, workdir)
    if average is not None:
        other_params, other_metadata, other_run = _load_run(average)
        _require_alike(run, other_run, workdir, average)
        params = jax.tree.map(lambda x, y: (x + y) / 2, params, other_params)
        metadata["provenance"]["averaged_with"] = _without_paths(other_metadata["provenance"])
    if data_path:
        run.data.path = data_path
    validation = sources(run)[1]
    fitted, values = fit_on(params, metadata, validation, progress, warn, str(workdir))
    provenance = {**_without_paths(metadata["provenance"]), "validation": values}
    header = {**metadata, **fitted, "provenance": provenance, "licence": licence}
    return {"sha256": save_weights(out, params, header), **values}


def fit_on(
    params: dict,
    metadata: dict,
    validation: Source,
    progress: ProgressFn = silent,
    warn=lambda text: None,
    name: str = "",
) -> tuple[dict, dict]:
    """Calibration and interval of a model, for its header, and what was measured; from its scores of `validation`.

    `metadata`: of the model, without calibration. The rest is as for `export`, which returns the same measures.
    """
    plain = {**metadata, "calibration": {}}
    # As the file stores them.
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(np.float16).astype(np.float32), params)
    scorer = Scorer(build_model(model_config(plain)), rounded, plain, name=name)
    predictions, mos = [], validation.column("mos").astype(np.float64)
    for each in scorer.predict_parts(validation.images()):
        predictions.append(each)
        progress("validation", len(predictions), len(validation))
    parts, seen = zip(*predictions, strict=True)
    return fit_header(np.asarray(parts, np.float64), np.asarray(seen), mos, warn)


def _load_run(workdir: str | os.PathLike) -> tuple[dict, dict, ConfigDict]:
    """The parameters, metadata and configuration of a run."""
    params, metadata, _ = load_model(workdir)
    return params, metadata, ConfigDict(migrate_config(metadata["provenance"]["run"]))


def fit_header(parts: np.ndarray, seen: np.ndarray, mos: np.ndarray, warn: Callable[[str], None]) -> tuple[dict, dict]:
    """The calibration and interval of a header, and what was measured, as for `fit_on`.

    Args:
      parts: (N, 1 + tiles) uncalibrated MOS, the whole view first, of images outside the training set.
      seen: (N, 2), the fields of `Evidence`.
      mos: (N,) in [0, 1].
    """
    predicted = parts[:, 0]
    calibration = _calibrated(predicted, mos, warn)
    calibrated = np.clip(calibration(parts), 0.0, 1.0)
    interval = {}
    if len(mos) >= FEWEST:
        spread, seen = tile_spread(calibrated[:, 1:]), Evidence(*np.transpose(seen))
        interval = fit_interval(calibrated[:, 0], spread, mos, seen=seen).to_dict()
    values = {
        "n": len(mos),
        "srcc": srcc(predicted, mos),
        "plcc": plcc(predicted, mos),
        "mae": float(np.abs(predicted - mos).mean()),
        "mae_calibrated": float(np.abs(calibration(predicted) - mos).mean()),
    }
    curve = {} if calibration == IDENTITY else calibration.to_dict()
    return {"calibration": curve, "interval": interval}, values


def _calibrated(predicted, mos, warn):
    """The calibration that the images allow, or the identity; calls `warn` with what is lacking."""
    if few := lacking(len(mos)):
        warn(few)
    try:
        return fit_calibration(predicted, mos)
    except ValueError as error:
        if len(mos) >= FEWEST_TO_CALIBRATE:
            warn(f"warning: the file has no calibration: {error}")
        return IDENTITY


def _require_alike(one, two, workdir, average):
    """Raises UserError unless two runs have the same model and were validated on the same images."""
    kept = ("kind", "name", "train", "val", "fold", "split_file", "min_mos", "sources")
    differ = [f"data.{key}" for key in kept if one.data[key] != two.data[key]]
    differ += ["model"] * (one.model.to_dict() != two.model.to_dict())
    if differ:
        raise UserError(
            f"{workdir} and {average} differ in {', '.join(differ)}: only runs of one model with one validation fold "
            "can be averaged"
        )


def export_program(model: str | os.PathLike, out: str | os.PathLike, licence: str | None = None) -> dict[str, str]:
    """Write a model as a `.stablehlo` file, see `driqa_jax.inference.exports.stablehlo`.

    It scores as `load(model)` does; a workdir gives its newest checkpoint, not calibrated. `licence` is one line for a
    workdir's weights (None: "not stated"); a weights file keeps its own. Returns `sha256` of the file.

    Raises UserError if there is no such model, for a run without a MOS predictor, or for a licence of a weights file.
    """
    weights = _is_licensed(model, licence)
    scorer = load(model, runtime="jax")
    if not weights:
        _require_predictor(scorer.params, model)
        provenance = _without_paths(scorer.metadata["provenance"])
        scorer.metadata |= {"licence": licence or "not stated", "provenance": provenance}
    stablehlo.save(out, scorer)
    return {"sha256": file_sha256(out)}


def export_onnx(model: str | os.PathLike, out: str | os.PathLike, licence: str | None, kind: str) -> dict[str, str]:
    """Write a model as an ONNX file of the `kind` "image" or "views", see `driqa_jax.inference.exports.onnx.file`.

    Needs the package `onnx`. Raises UserError as `export_program` does, and for a model that the file cannot hold.
    """
    from driqa_jax.inference.exports.onnx.file import save

    weights = _is_licensed(model, licence)
    loaded = load_model(model)
    if not weights:
        provenance = _without_paths(loaded.metadata["provenance"])
        loaded.metadata.update(licence=licence or "not stated", provenance=provenance)
    save(out, loaded, os.fspath(model), kind)
    return {"sha256": file_sha256(out)}


def _is_licensed(model: str | os.PathLike, licence: str | None) -> bool:
    """`is_weights`; raises UserError if these are given a licence."""
    if is_weights(model) and licence is not None:
        raise UserError(f"{model}: weights files keep their licence; --licence is for a training's workdir")
    return is_weights(model)


def is_weights(model: str | os.PathLike) -> bool:
    """Whether a model is a bundled name or a file, not a training's workdir."""
    return os.fspath(model) in bundled_files() or os.path.isfile(model)


def _require_predictor(params, name: str | os.PathLike) -> None:
    if "predictor" not in params:
        raise UserError(f"{name}: a pretraining run has no MOS predictor; export a run of stage finetune")


def _without_paths(provenance: dict) -> dict:
    """Remove paths of the machine that trained, which are private."""
    run = ConfigDict(provenance["run"])
    run.init = pathlib.PurePath(run.init).name
    for data in (run.data, *run.data.get("sources", {}).values()):
        data.path = ""
    return {**provenance, "run": run.to_dict()}
