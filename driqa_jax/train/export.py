"""A training run to one calibrated weights file; any model to one file that needs only JAX and numpy."""

from __future__ import annotations

import os
import pathlib

import jax
import ml_collections
import numpy as np

from driqa_jax.checkpoints.weights import bundled_files, file_sha256, save_weights
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import plcc, srcc
from driqa_jax.inference.calibration import FEWEST as FEWEST_TO_CALIBRATE
from driqa_jax.inference.calibration import IDENTITY, fit_calibration
from driqa_jax.inference.conformal import FEWEST, Evidence, fit_interval, lacking, tile_spread
from driqa_jax.inference.exports import stablehlo
from driqa_jax.inference.scorer import Scorer, load, model_config


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    licence: str,
    data_path: str | None = None,
    progress=lambda done, count: None,
    average: str | os.PathLike | None = None,
    warn=lambda text: None,
) -> dict:
    """Write the newest checkpoint of a finetuning run as a weights file.

    The validation fold is scored with the very numbers that the file will hold (float16) and the view that scoring
    uses; the calibration is fitted on that, and the interval where there are `interval.FEWEST` pictures. Where too few
    pictures are there, or predictions do not rise with MOS, the file goes without: a score is then 100 times the
    predicted MOS. Nothing of it is random.

    Args:
      workdir: of the run.
      out: the file, `.safetensors`.
      licence: of the weights, one line for the header.
      data_path: where the run's data lie now; None: where they lay.
      progress: told (pictures done, pictures in all).
      average: workdir of another run of the same model on the same data and fold, as the one that this one started
        from: the mean of the parameters of both is written. Source: Wortsman et al., "Robust fine-tuning of zero-shot
        models", CVPR 2022.

      warn: told, in words, what the file goes without.

    Returns:
      `sha256` of the file and, on validation, `n`, `srcc`, `plcc` (None where not defined), `mae` (MOS, 0 to 1)
      and `mae_calibrated`.

    Raises:
      UserError: no such run, weights instead of a run, a run without a MOS predictor, or its data cannot be opened.
    """
    if is_weights(workdir):
        raise UserError(
            f"{workdir}: is a weights file already, calibrated and with its licence: copy it. A .safetensors file "
            f"is made of a training's workdir; a .stablehlo file of any model"
        )
    from driqa_jax.checkpoints.manager import load_for_scoring
    from driqa_jax.checkpoints.migrations import completed
    from driqa_jax.models.driqa import build_model
    from driqa_jax.train.loop import sources

    params, metadata = load_for_scoring(workdir)
    _require_predictor(params, workdir)
    run = ml_collections.ConfigDict(completed(metadata["provenance"]["run"]))
    if average is not None:
        other, before = load_for_scoring(average)
        two = ml_collections.ConfigDict(completed(before["provenance"]["run"]))
        _require_alike(run, two, workdir, average)
        params = jax.tree.map(lambda x, y: (x + y) / 2, params, other)
        metadata["provenance"]["averaged_with"] = _without_places(before["provenance"])
    if data_path:
        run.data.path = data_path
    validation = sources(run)[1]
    rounded = _as_stored(params)
    plain = {**metadata, "calibration": {}}
    scorer = Scorer(build_model(model_config(plain)), rounded, plain, name=str(workdir))
    predictions, seen = [], []
    for values, shown in scorer.predict_parts(validation.images()):
        predictions.append(values)
        seen.append(shown)
        progress(len(predictions), len(validation))
    parts, mos = np.asarray(predictions, np.float64), validation.column("mos").astype(np.float64)
    predicted = parts[:, 0]
    calibration = _calibrated(predicted, mos, warn)
    calibrated = np.clip(calibration(parts), 0.0, 1.0)
    interval = {}
    if len(mos) >= FEWEST:
        spread, seen = tile_spread(calibrated[:, 1:]), Evidence(*np.transpose(seen))
        interval = fit_interval(calibrated[:, 0], spread, mos, seen=seen).to_dict()
    found = {
        "n": len(mos),
        "srcc": srcc(predicted, mos),
        "plcc": plcc(predicted, mos),
        "mae": float(np.abs(predicted - mos).mean()),
        "mae_calibrated": float(np.abs(calibration(predicted) - mos).mean()),
    }
    provenance = {**_without_places(metadata["provenance"]), "validation": found}
    curve = {} if calibration == IDENTITY else calibration.to_dict()
    described = {**metadata, "calibration": curve, "provenance": provenance, "licence": licence}
    described["interval"] = interval
    return {"sha256": save_weights(out, params, described), **found}


def _calibrated(predicted, mos, warn):
    """The calibration that the pictures allow, the identity where they allow none; `warn` is told what is lacking."""
    if few := lacking(len(mos)):
        warn(few)
    try:
        return fit_calibration(predicted, mos)
    except ValueError as error:
        if len(mos) >= FEWEST_TO_CALIBRATE:
            warn(f"warning: the file has no calibration: {error}")
        return IDENTITY


def _require_alike(one, two, workdir, average):
    """Raises UserError for configurations whose mean is no model, or that were not validated on the same pictures."""
    kept = ("kind", "name", "train", "val", "fold", "split_file", "min_mos")
    differ = [f"data.{key}" for key in kept if one.data[key] != two.data[key]]
    differ += ["model"] * (one.model.to_dict() != two.model.to_dict())
    if differ:
        raise UserError(
            f"{workdir} and {average} differ in {', '.join(differ)}: only runs of one model with one validation fold "
            "can be averaged"
        )


def export_program(model: str | os.PathLike, out: str | os.PathLike, licence: str | None = None) -> dict:
    """Write a model as a `.stablehlo` file, see `driqa_jax.inference.exports.stablehlo`.

    It scores as `load(model)` does: of a workdir, then, the newest checkpoint, not calibrated.

    Args:
      model: a bundled name, a weights file, or a workdir.
      out: the file, `.stablehlo`.
      licence: of a workdir's weights, one line; None: "not stated". Weights files state theirs, which is kept.

    Returns:
      `sha256` of the file.

    Raises:
      UserError: no such model, a run without a MOS predictor, or a licence for weights that have one.
    """
    weights = is_weights(model)
    if weights and licence is not None:
        raise UserError(f"{model}: these weights state a licence, which is kept; --licence is for a training's workdir")
    scorer = load(model)
    if not weights:
        _require_predictor(scorer.params, model)
        provenance = _without_places(scorer.metadata["provenance"])
        scorer.metadata |= {"licence": licence or "not stated", "provenance": provenance}
    stablehlo.save(out, scorer)
    return {"sha256": file_sha256(out)}


def is_weights(model: str | os.PathLike) -> bool:
    """Whether a model is named that is one file: bundled, or a file on disk, and no training's workdir."""
    return os.fspath(model) in bundled_files() or os.path.isfile(model)


def _require_predictor(params, name: str | os.PathLike) -> None:
    if "predictor" not in params:
        raise UserError(f"{name}: a pretraining run holds no MOS predictor; export a run of stage finetune")


def _without_places(provenance: dict) -> dict:
    """Where data and weights lay on somebody's machine is nobody's business."""
    run = ml_collections.ConfigDict(provenance["run"])
    run.data.path, run.init = "", pathlib.PurePath(run.init).name
    return {**provenance, "run": run.to_dict()}


def _as_stored(tree):
    """Parameters as they come back from a float16 file."""
    if isinstance(tree, dict):
        return {name: _as_stored(value) for name, value in tree.items()}
    return np.asarray(tree).astype(np.float16).astype(np.float32)
