"""A training run to one weights file: averaged parameters, calibrated on the run's own validation fold."""

from __future__ import annotations

import os
import pathlib

import ml_collections
import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import plcc, srcc
from driqa_jax.scoring.calibration import fit_calibration
from driqa_jax.scoring.scorer import Scorer, model_config
from driqa_jax.scoring.weights import save_weights


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    licence: str,
    data_path: str | None = None,
    progress=lambda done, count: None,
) -> dict:
    """Write the newest checkpoint of a finetuning run as a weights file.

    The validation fold is scored with the very numbers that the file will hold (float16) and the view that scoring
    uses; the calibration is fitted on that. Between validation and calibration nothing is random.

    Args:
      workdir: of the run.
      out: the file, `.safetensors`.
      licence: of the weights, one line for the header.
      data_path: where the run's data lie now; None: where they lay.
      progress: told (pictures done, pictures in all).

    Returns:
      `sha256` of the file and, on validation, `n`, `srcc`, `plcc` and `mae` (MOS, 0 to 1), and `mae_calibrated`.

    Raises:
      UserError: no such run, one without a MOS predictor, or its data cannot be opened.
    """
    from driqa_jax.models.driqa import build_model
    from driqa_jax.train.checkpoint import load_for_scoring
    from driqa_jax.train.loop import sources

    params, metadata = load_for_scoring(workdir)
    if "predictor" not in params:
        raise UserError(f"{workdir}: a pretraining run holds no MOS predictor; export a run of stage finetune")
    run = ml_collections.ConfigDict(metadata["provenance"]["run"])
    if data_path:
        run.data.path = data_path
    validation = sources(run)[1]
    rounded = _as_stored(params)
    plain = {**metadata, "calibration": {}}
    scorer = Scorer(build_model(model_config(plain)), rounded, plain, name=str(workdir))
    predictions = []
    for value in scorer.predict(validation.encoded(i) for i in range(len(validation))):
        predictions.append(value)
        progress(len(predictions), len(validation))
    predicted, mos = np.asarray(predictions), validation.column("mos").astype(np.float64)
    calibration = fit_calibration(predicted, mos)
    found = {
        "n": len(mos),
        "srcc": srcc(predicted, mos),
        "plcc": plcc(predicted, mos),
        "mae": float(np.abs(predicted - mos).mean()),
        "mae_calibrated": float(np.abs(calibration(predicted) - mos).mean()),
    }
    run.data.path = ""  # where the data lay on somebody's machine is nobody's business
    run.init = pathlib.PurePath(run.init).name
    provenance = {**metadata["provenance"], "run": run.to_dict(), "validation": found}
    described = {**metadata, "calibration": calibration.to_dict(), "provenance": provenance, "licence": licence}
    return {"sha256": save_weights(out, params, described), **found}


def _as_stored(tree):
    """Parameters as they come back from a float16 file."""
    if isinstance(tree, dict):
        return {name: _as_stored(value) for name, value in tree.items()}
    return np.asarray(tree).astype(np.float16).astype(np.float32)
