"""The record of a run: one JSON with its results and provenance, and a CSV with the scores of each image."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from driqa_jax.data.label_tables import read_lines
from driqa_jax.errors import UserError
from driqa_jax.evaluation.report import Report
from driqa_jax.io import make_folder, to_csv, write_json, write_text
from driqa_jax.protocol.plan import CHOSEN, Run, slug
from driqa_jax.train.config import fixed_on_resume, migrate_config, require_same

FORMAT = "driqa_jax run 1"
FILE = "run.json"


class Scores(NamedTuple):
    """The images of one test set: names (N,) str, MOS (N,), `novel` (N,) bool, and predictions (N,) by checkpoint."""

    image: np.ndarray
    mos: np.ndarray
    novel: np.ndarray
    predicted: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: step and sha256 by checkpoint, reports by checkpoint and test set, provenance."""

    run: Run
    checkpoints: Mapping[str, Mapping[str, Any]]
    reports: Mapping[str, Mapping[str, Report]]
    provenance: Mapping[str, Any]

    def save(self, folder: pathlib.Path) -> None:
        """Write the record. The existence of this file marks a run as finished."""
        write_json(folder / FILE, {"format": FORMAT, **plain_values(self)})

    @classmethod
    def load(cls, file: pathlib.Path) -> Record:
        """Read a file of `save`. Raises UserError with the path for anything else."""
        try:
            values = json.loads(file.read_text())
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise UserError(f"{file}: is not JSON ({error})") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise UserError(f"{file}: is not a run of `driqa protocol`: the format must be {FORMAT!r}")
        reports = {
            name: {test: Report.from_dict(report) for test, report in tests.items()}
            for name, tests in values["reports"].items()
        }
        return cls(Run.from_dict(values["run"]), values["checkpoints"], reports, values["provenance"])


def plain_values(values: Any) -> Any:
    """A dataclass as JSON returns it: dictionaries, lists, numbers, text."""
    return json.loads(json.dumps(dataclasses.asdict(values)))


def claim_folder(run: Run, folder: pathlib.Path) -> None:
    """Write the plan of a run into its folder. Raises UserError with the keys if a different run started there."""
    make_folder(folder)
    file, now = folder / "plan.json", plain_values(run)
    if not file.exists():
        write_json(file, now)
        return
    require_same(_binding(json.loads(file.read_text())), _binding(now), folder)


def _binding(run: dict) -> dict[str, Any]:
    tests = {test["name"]: {**test, "data": {**(test["data"] or {}), "path": ""}} for test in run["tests"]}
    split = {"sha256": run["split"]["sha256"]} if run["split"] else None
    # Runs begun before there were baselines lack the key.
    rest = {"baseline": "", **run, "tests": tests, "split": split}
    config = migrate_config(rest.pop("config"))
    fixed = fixed_on_resume(config)
    if set(run["checkpoints"]) & set(CHOSEN):
        # Such a checkpoint is chosen among the evaluations, so their steps are part of the result.
        fixed["eval_every"] = config["eval_every"]
    return traverse_util.flatten_dict({**rest, "config": fixed}, sep=".")


def save_state(folder: pathlib.Path, **values: Any) -> None:
    """Add values to the state of an unfinished run."""
    write_json(folder / "begun.json", {**load_state(folder), **values})


def load_state(folder: pathlib.Path) -> dict[str, Any]:
    """The values of `save_state`."""
    file = folder / "begun.json"
    return json.loads(file.read_text()) if file.exists() else {}


def save_scores(folder: pathlib.Path, test: str, scores: Scores) -> None:
    """Write the scores of a test set as CSV with full precision."""
    columns = [scores.image.tolist(), *(values.tolist() for values in scores.predicted.values()), scores.mos.tolist()]
    rows = zip(*columns, scores.novel.astype(int).tolist(), strict=True)
    text = to_csv([["image", *scores.predicted, "mos", "novel"], *rows])
    write_text(scores_file(folder, test), text)


def load_scores(folder: pathlib.Path, test: str) -> Scores:
    """Read a file of `save_scores`. Raises DataError if it cannot be read."""
    (_, head), *lines = read_lines(scores_file(folder, test))
    columns = dict(zip(head, zip(*(cells for _, cells in lines), strict=True), strict=True))
    image, mos, novel = (np.array(columns.pop(key)) for key in ("image", "mos", "novel"))
    predicted = {name: np.array(values, np.float64) for name, values in columns.items()}
    return Scores(image, mos.astype(np.float64), novel == "1", predicted)


def scores_file(folder: pathlib.Path, test: str) -> pathlib.Path:
    """The path of a test set's scores."""
    return folder / f"scores_{slug(test)}.csv"
