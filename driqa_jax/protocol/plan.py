"""The runs of a protocol: each row of the table, on each split, with each seed."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from driqa_jax.data.open import LABEL_OPTIONS, OPENED_BY, open_configured
from driqa_jax.data.source import Resized, Source
from driqa_jax.data.split_file import Split, hash_split, official_split, published_split, subset_split
from driqa_jax.errors import UserError, require_choice, user_errors
from driqa_jax.train.config import migrate_config, set_keys
from driqa_jax.train.stages.registry import STAGES

PEEKED = "best_on_test"
CHOSEN = ("val_selected", PEEKED)  # selected among the evaluations of a training
CHECKPOINTS = ("last", *CHOSEN)
AS_IT_IS = "as it is"  # in place of a checkpoint, for weights that are not trained
AS_FITTED = "as fitted"  # and for a baseline, which has no steps
BASELINES = ("ridge",)


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Images to test on: a part of the training's own data set, or (with `data`) another data set.

    name: in the table. part: see `driqa_jax.data.splits.select`. data: the keys of a configuration's `data`. height:
    rows that every image is resized to; 0: no resizing. canvas: of the views; (): that of the training.
    """

    __test__ = False  # no test case of pytest

    name: str
    part: str
    data: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)
    height: int = 0
    canvas: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """One training and its tests, as plain values, so its record is enough to repeat it.

    split: None if no part of the training's own data set is used. config: the training's configuration as a
    dictionary. weights: a name or file that is tested without training; "" otherwise. baseline: one of `BASELINES`,
    fitted instead of a training; "" otherwise.
    """

    row: str
    seed: int
    split: Split | None
    config: Mapping[str, Any]
    weights: str
    tests: tuple[TestSet, ...]
    checkpoints: tuple[str, ...]
    bootstrap: int
    baseline: str = ""

    @property
    def name(self) -> str:
        """Name for messages and tables."""
        return f"{self.row}, {self.split.id}, seed {self.seed}" if self.split else self.row

    @property
    def folder(self) -> pathlib.Path:
        """Folder relative to the workdir."""
        return pathlib.Path("runs", slug(self.row), slug(self.split.id) if self.split else "whole", f"seed{self.seed}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        split, tests = values["split"], values["tests"]
        if split:
            images = split["images"] and {part: tuple(names) for part, names in split["images"].items()}
            split = Split(**{**split, "images": images})
        sets = tuple(TestSet(**{**test, "canvas": tuple(test["canvas"])}) for test in tests)
        changed = {"split": split, "tests": sets, "checkpoints": tuple(values["checkpoints"])}
        return cls(**{**values, **changed, "config": migrate_config(values["config"])})


class DataSets:
    """Opened data sets; each is opened once."""

    def __init__(self):
        self._opened: dict[str, Source] = {}

    def open(self, data: Mapping[str, Any], height: int = 0) -> Source:
        """The source of a configuration's `data`. Raises UserError if it cannot be opened."""
        key = repr((height, *(str(data.get(name)) for name in OPENED_BY)))
        if key not in self._opened:
            with user_errors():
                source = open_configured(ConfigDict(dict(data)))
            self._opened[key] = Resized(source, height) if height else source
        return self._opened[key]


def make_plan(config: ConfigDict, sets: DataSets) -> list[Run]:
    """The runs of a protocol, row by row.

    Raises UserError: an unknown key, two rows of one name, `best_on_test` as the first checkpoint, unreadable data.
    """
    checkpoints = tuple(config.checkpoints)
    for name in checkpoints or ("",):
        require_choice("checkpoints", name, CHECKPOINTS)
    if checkpoints[0] == PEEKED:
        raise UserError(
            f"config.checkpoints: {PEEKED} uses the test pictures; put another one first, never use it alone"
        )
    if PEEKED in checkpoints and not config.test:
        raise UserError(f"config.checkpoints: {PEEKED} needs config.test, the part of its own data to select on")
    if not config.rows or not config.seeds:
        raise UserError("config.rows and config.seeds must not be empty")
    runs = [run for name, changes in config.rows for run in _row(config, name, dict(changes), checkpoints, sets)]
    if not any(run.tests for run in runs):
        raise UserError("nothing to test on: set config.test or the path of a data set, --config.across.NAME.path=...")
    folders = [run.folder for run in runs]
    if len(set(folders)) < len(folders):
        shared = next(folder for folder in folders if folders.count(folder) > 1)
        raise UserError(f"config.rows: two runs would use the folder {shared}; rename rows or splits")
    return runs


def _row(config, name, changes, checkpoints, sets):
    weights, baseline = changes.pop("weights", ""), changes.pop("baseline", "")
    training = ConfigDict(config.base.to_dict()).lock()
    set_keys(training, changes, f"config.rows, {name!r}")
    if training.data.sources:
        raise UserError(f"config.rows, {name!r}: a protocol splits one data set; leave data.sources empty")
    if baseline:
        require_choice(f"rows, {name!r}: baseline", baseline, BASELINES)
        if weights or training.stage != "heads":
            raise UserError(
                f"config.rows, {name!r}: the ridge only reads cached features; set base.stage='heads' and no weights"
            )
    if not weights and (training.stage not in STAGES or STAGES[training.stage].predict is None):
        raise UserError(f"config.rows, {name!r}: the stage {training.stage!r} predicts no MOS, so it cannot be tested")
    own = _data_of(training.data)
    splits = [None] if weights and not config.test else _splits(config.splits, sets.open(own))
    for split in splits:
        others = tuple(_others(config.across, own, sets))
        tests = (TestSet(f"{split.data} {config.test}", config.test), *others) if config.test else others
        # The seed changes nothing for fixed weights, nor for a baseline whose validation part is given.
        for seed in config.seeds[:1] if weights or baseline and split.counts.get("val") else config.seeds:
            chosen = ConfigDict(training.to_dict())
            chosen.seed = chosen.data.fold = seed
            if split:
                fold = ("train", "val") if split.counts.get("val") else ("train/fit", "train/val")
                chosen.data.train, chosen.data.val = fold
            kept = (AS_IT_IS,) if weights else (AS_FITTED,) if baseline else checkpoints
            yield Run(name, seed, split, chosen.to_dict(), weights, tests, kept, config.bootstrap, baseline)


def _others(across, own, sets):
    for name, given in sorted(across.items()):
        data = _data_of(given)
        if data == own or not (given.path or given.kind == "fake"):
            continue  # the training's own set, or a set without a path
        sets.open(data, given.height)  # fail now, not after hours of training
        yield TestSet(name, given.split, data, given.height, tuple(given.canvas))


def _data_of(given) -> dict[str, Any]:
    values = {key: given[key] for key in OPENED_BY if given[key] or key not in LABEL_OPTIONS}
    return {**values, "mos_range": list(given.mos_range)}


def _splits(splits, source):
    held_out = splits.subsets or sorted({*source.column("subset").tolist()} - {""})
    makers = {
        "official": lambda: [official_split(source)],
        "hash": lambda: [hash_split(source, k, splits.test, splits.val, splits.of) for k in splits.numbers],
        "subset": lambda: [subset_split(source, name, splits.val, splits.of) for name in held_out],
        "published": lambda: [published_split(pathlib.Path(splits.folder), source, k) for k in splits.numbers],
        "files": lambda: [Split.load(file) for file in splits.files],
    }
    require_choice("splits.kind", splits.kind, makers)
    made = makers[splits.kind]()
    if not made:
        raise UserError("config.splits names no split; set config.splits.numbers or config.splits.files")
    for split in made:
        split.assigned(source)
    return made


def slug(name: str) -> str:
    """A name that is safe for a folder."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("_.") or "unnamed"
