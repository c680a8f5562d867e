"""What a run tests: weights as they are, or the parameters that a training of its own has led to."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from driqa_jax import distributed
from driqa_jax.checkpoints.manager import load_for_scoring
from driqa_jax.checkpoints.weights import file_sha256, params_sha256
from driqa_jax.data.source import Source
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.inference.scorer import load
from driqa_jax.models.driqa import build_model
from driqa_jax.protocol.best import Best
from driqa_jax.protocol.plan import AS_IT_IS, PEEKED, Run, Trial
from driqa_jax.protocol.record import note, noted
from driqa_jax.provenance import describe
from driqa_jax.train import initialization
from driqa_jax.train.loop import train
from driqa_jax.train.stages.finetune import view_rule
from driqa_jax.train.stages.registry import STAGES

# (test, its pictures) -> predicted MOS (N,) in [0, 1], float64.
Predict = Callable[[Trial, Source], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Tested:
    """By checkpoint how to predict, and its sha256 and step; provenance; `code` of a training that was stopped."""

    predict: Mapping[str, Predict] = dataclasses.field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: int = 0


def as_it_is(weights: str) -> Tested:
    """A bundled model, weights file or workdir that scores as `driqa score` does. Raises UserError as loading does."""
    scorer = load(weights)

    def predict(test: Trial, part: Source) -> np.ndarray:
        found = []
        pictures = part.images()
        for result in scorer.stream(pictures, names=part.column("image_id").tolist()):
            if result.error:
                raise UserError(f"{test.name}: {result.path}: {result.error}")
            found.append(result.score / 100)
        return np.array(found)

    kept = ("model", "variant", "effort", "view", "calibration")
    said = {key: value for key, value in describe(scorer).items() if key in kept}
    return Tested({AS_IT_IS: predict}, {AS_IT_IS: {"sha256": scorer.sha256}}, said)


def train_run(run: Run, folder: pathlib.Path, parts: Mapping[Trial, Source]) -> Tested:
    """Train, from the start or from where it was stopped, and take the checkpoints that are asked for.

    parts: the tests' pictures. Raises UserError as `driqa_jax.train.loop.train` does, and where it returns 1.
    """
    config = ml_collections.ConfigDict(dict(run.config))
    if run.split and run.split.rule["kind"] != "official":
        run.split.save(folder / "split.json")
        config.data.split_file = str((folder / "split.json").resolve())
    work, stage = folder / "training", STAGES[config.stage]
    best = {name: Best(folder / f"{name}.safetensors") for name in run.checkpoints if name != "last"}
    peeked = next((test for test in parts if test.data is None), None)
    prepared: dict[tuple, Callable] = {}

    def predict(params, test: Trial, part: Source) -> np.ndarray:
        if test.canvas not in prepared:
            # As the training wrote it: the types of what it started from are filled in.
            seen = ml_collections.ConfigDict(json.loads((work / "config.json").read_text()))
            seen.view.canvas = test.canvas or tuple(seen.view.canvas)
            prepared[test.canvas] = stage.predict(seen, build_model(seen.model), distributed.make_mesh())
        return prepared[test.canvas](params, part)[0]

    def watch(step, params, found):
        if "val_selected" in best:
            best["val_selected"].offer(step, params, found["val_srcc"])
        if PEEKED in best:
            part = parts[peeked]
            best[PEEKED].offer(step, params, srcc(predict(params, peeked, part), part.column("mos")))

    if "init" not in noted(folder):
        note(folder, init=_sha256(config.init))
    code = train(ml_collections.FrozenConfigDict(config), str(work), watch)
    if code == 1:  # of this run alone: the others may still be done
        raise UserError(f"{work}: loss or gradients were not finite; standard error names the step and the term")
    if code:
        return Tested(code=code)
    params, metadata = load_for_scoring(work)
    chosen = {"last": (metadata["provenance"]["step"], params)}
    chosen |= {name: kept.load() for name, kept in best.items()}
    return Tested(
        {name: lambda test, part, params=params: predict(params, test, part) for name, (_, params) in chosen.items()},
        {name: {"step": step, "sha256": params_sha256(params)} for name, (step, params) in chosen.items()},
        {
            "view": {**view_rule(config, config.view.eval_tiles).to_dict(), "canvases": [list(config.view.canvas)]},
            "init": {"given_as": config.init, "sha256": noted(folder)["init"]},
        },
    )


def _sha256(init: str) -> str | None:
    """Of what a training starts from; None for fresh parameters."""
    if not init:
        return None
    return file_sha256(init) if os.path.isfile(init) else params_sha256(initialization.load(init)[0])
