"""What is kept of a run: one JSON with its figures and where they come from, and each picture's scores."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from driqa_jax.checkpoints.migrations import migrate_config
from driqa_jax.data.csv_lines import read_lines
from driqa_jax.errors import UserError
from driqa_jax.evaluation.report import Report
from driqa_jax.io import write_whole
from driqa_jax.protocol.plan import Run, slug

FORMAT = "driqa_jax run 1"
FILE = "run.json"
# Keys of a run that change nothing in its figures: where things lie, how often they are saved and told.
_FREE = tuple(
    f"config.{key}" for key in ("checkpoint.", "log_every", "data.path", "data.threads", "corpus.", "cache.folder")
)


@dataclasses.dataclass(frozen=True)
class Scores:
    """The pictures of one test: names (N,) str, MOS (N,), `novel` (N,) bool, and by checkpoint the predictions (N,)."""

    image: np.ndarray
    mos: np.ndarray
    novel: np.ndarray
    predicted: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: what it was; by checkpoint its step and sha256; by checkpoint and test the report; provenance."""

    run: Run
    checkpoints: Mapping[str, Mapping[str, Any]]
    reports: Mapping[str, Mapping[str, Report]]
    provenance: Mapping[str, Any]

    def save(self, folder: pathlib.Path) -> None:
        """Write it; with this file a run counts as finished."""
        values = {"format": FORMAT, **plain(self)}
        write_whole(folder / FILE, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, file: pathlib.Path) -> Record:
        """Read what `save` wrote. Raises UserError, naming the file, for anything else."""
        try:
            values = json.loads(file.read_text())
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise UserError(f"{file}: is no JSON ({error})") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise UserError(f"{file}: is not a run of `driqa protocol`: its format is not {FORMAT!r}")
        reports = {
            name: {test: Report.from_json(json.dumps(report)) for test, report in tests.items()}
            for name, tests in values["reports"].items()
        }
        return cls(Run.from_dict(values["run"]), values["checkpoints"], reports, values["provenance"])


def plain(values: Any) -> Any:
    """A dataclass as JSON would give it back: dictionaries, lists, numbers, text."""
    return json.loads(json.dumps(dataclasses.asdict(values)))


def claim(run: Run, folder: pathlib.Path) -> None:
    """Write what a run is into its folder; raises UserError, naming the keys, where another one has begun there."""
    folder.mkdir(parents=True, exist_ok=True)
    file, now = folder / "plan.json", plain(run)
    if not file.exists():
        write_whole(file, (json.dumps(now, indent=1) + "\n").encode())
        return
    before, after = _binding(json.loads(file.read_text())), _binding(now)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    if changed:
        raise UserError(
            f"{folder} holds this run under another configuration (it differs in {', '.join(changed)}); give another "
            f"--workdir, or the same configuration to go on"
        )


def _binding(run: dict) -> dict[str, Any]:
    tests = {test["name"]: {**test, "data": {**(test["data"] or {}), "path": ""}} for test in run["tests"]}
    split = {"sha256": run["split"]["sha256"]} if run["split"] else None
    # Runs begun before there were baselines lack the key.
    run = {"baseline": "", **run, "config": migrate_config(run["config"])}
    flat = traverse_util.flatten_dict({**run, "tests": tests, "split": split}, sep=".")
    return {key: value for key, value in flat.items() if not key.startswith(_FREE)}


def note(folder: pathlib.Path, **values: Any) -> None:
    """Keep something of a run that is under way."""
    write_whole(folder / "begun.json", (json.dumps({**noted(folder), **values}, indent=1) + "\n").encode())


def noted(folder: pathlib.Path) -> dict[str, Any]:
    """What `note` kept."""
    file = folder / "begun.json"
    return json.loads(file.read_text()) if file.exists() else {}


def save_scores(folder: pathlib.Path, test: str, scores: Scores) -> None:
    """Write the pictures of a test as CSV, predictions in full."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["image", *scores.predicted, "mos", "novel"])
    for i, image in enumerate(scores.image.tolist()):
        found = [repr(float(values[i])) for values in scores.predicted.values()]
        rows.writerow([image, *found, repr(float(scores.mos[i])), int(scores.novel[i])])
    write_whole(scores_file(folder, test), file.getvalue().encode())


def load_scores(folder: pathlib.Path, test: str) -> Scores:
    """Read what `save_scores` wrote. Raises DataError where it cannot be read."""
    (_, head), *lines = read_lines(scores_file(folder, test))
    columns = dict(zip(head, zip(*(cells for _, cells in lines), strict=True), strict=True))
    image, mos, novel = (np.array(columns.pop(key)) for key in ("image", "mos", "novel"))
    predicted = {name: np.array(values, np.float64) for name, values in columns.items()}
    return Scores(image, mos.astype(np.float64), novel == "1", predicted)


def scores_file(folder: pathlib.Path, test: str) -> pathlib.Path:
    """Where the scores of a test lie."""
    return folder / f"scores_{slug(test)}.csv"
