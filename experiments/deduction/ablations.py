"""What each part of the form "deduction" is good for: tables from kept features and short refits of the drops.

    python -m experiments.deduction.ablations --rated BIQ2021/rated.csv --pristine PHOTOS --held OTHER_PHOTOS \
        --set LIVEC/dev.csv --scale 0,100 --features runs/features -o docs/results/ablations

`--rated`, `--pristine` and `--features` are those of `experiments.deduction`, whose kept moments serve again. `--held`
is a folder of photographs that no training has seen, `--set` a CSV `image,mos` of real photographs, with the worst and
best score in `--scale`, `--seed` that of the examples. The level is that of `--model` in all rows, so that they differ
in their drops alone. Writes deduction.md, types.md, cross_source.md and vectors.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import where
from benchmarks.photographs import photographs
from driqa_jax import io
from driqa_jax.checkpoints.load import load
from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import decode
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.source import Subset
from driqa_jax.data.splits import in_validation
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.tables import RunEstimate, Table, to_markdown
from driqa_jax.inference.findings import codes
from driqa_jax.models.deduction import DeductionHead, DeductionModel
from driqa_jax.models.driqa import build_model
from driqa_jax.models.layers import dropout
from driqa_jax.models.quality_encoder import STRIDE
from driqa_jax.progress import Progress, ProgressFn, silent
from experiments.deduction import __main__ as experiment
from experiments.deduction import training
from experiments.deduction.drops import Examples, fit_drops
from experiments.deduction.features import RULE, Encoders
from experiments.deduction.human_scale import LEVELS, MEANS, agreement, degraded
from experiments.deduction.level import Rated, fit_levels, levels
from experiments.deduction.teacher import kernel_ridge
from experiments.deduction.visible import TYPES, WEIGHTS

LEVEL = ("standardize_moments", "level_hidden", "level_out")  # the parameters of the level
STEPS, EXAMPLES, SEEDS, FOLDS = 2000, 800, 3, 5
HUMAN_PHOTOS = 8  # of the held photographs, those for the human scale
FIGURES = (
    "real photos, SRCC",
    "human scale without color and tone",
    "human scale",
    "patch AUC",
    "right group first, KADID-10k's types",
    "right group first, other types",
)


class WithoutVectors(DeductionHead):
    """The drops do not read degradation vectors."""

    def drop_logits(self, cells, vectors, places, keys=None):
        return super().drop_logits(cells, jnp.zeros_like(vectors), places, keys)


class WithoutImage(DeductionHead):
    """The drops of a cell do not read the mean of all cells and of those in the middle."""

    def context(self, cells, places):
        return jnp.zeros((len(cells), self.drop_width))


class WithoutInteraction(DeductionHead):
    """One half of the hidden units reads cells, the other vectors; what an image loses by both is added.

    With twice the `drop_width`, each half is as wide as the common hidden layer that it replaces.
    """

    def drop_logits(self, cells, vectors, places, keys=None):
        cells = jnp.where(places.mask[..., None], self.standardize_cells(cells), 0.0)
        of_cells = self.drop_of_cells(cells) + self.context(cells, places)[:, None, :]
        tiles = self.drop_of_vectors(self.standardize_vectors(vectors))
        of_vectors = jnp.einsum("bnk,bkw->bnw", places.near, tiles)
        first = jnp.arange(self.drop_width) < self.drop_width // 2
        kept = dropout(jnp.ones_like(of_cells[:, 0]), keys, self.drop_dropout)[:, None, :]
        halves = jnp.where(first, nn.gelu(of_cells), 0.0), jnp.where(first, 0.0, nn.gelu(of_vectors))
        lost = sum(nn.softplus(self.drop_out(half * kept)) for half in halves)
        return lost + jnp.log(-jnp.expm1(-lost) + 1e-12)  # the logit of 1 - exp(-lost)


class Product(DeductionHead):
    """The score is the product of level and ceiling, and the level where nothing is lost."""

    def capped(self, level, keep):
        return level * self.ceiling(keep) / self.top


class LevelAlone(DeductionHead):
    """The score is the level."""

    def capped(self, level, keep):
        return level + jnp.zeros_like(keep)


class Row(NamedTuple):
    """A row of the table: what is trained, what is used, how wide the drops' hidden layer is."""

    trained: type[DeductionHead]
    used: type[DeductionHead]
    wider: int = 1


ROWS: dict[str, Row] = {
    "level alone": Row(DeductionHead, LevelAlone),
    "whole": Row(DeductionHead, DeductionHead),
    "without degradation vectors": Row(WithoutVectors, WithoutVectors),
    "without interaction": Row(WithoutInteraction, WithoutInteraction, 2),
    "without the context of the image": Row(WithoutImage, WithoutImage),
    "product of level and ceiling": Row(DeductionHead, Product),
}


class Evaluation(NamedTuple):
    """What is measured on: arrays of `Encoders`, one dictionary for each image.

    `real` with `mos` (N,); `human`: of each photograph itself and its 125 cells, as in `human_scale`; `cases` with
    `shown`, their arrays.
    """

    real: Sequence[Mapping[str, np.ndarray]]
    mos: np.ndarray
    human: Sequence[Mapping[str, np.ndarray]]
    cases: Sequence[where.Case]
    shown: Sequence[Mapping[str, np.ndarray]]


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what features are missing, refit, write the tables. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.deduction.ablations", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rated", required=True, help="CSV image,mos in [0, 1]")
    parser.add_argument("--pristine", required=True, help="folder of pristine photographs")
    parser.add_argument("--held", required=True, help="folder of photographs that no training has seen")
    parser.add_argument("--set", required=True, help="CSV image,mos of real photographs that no training has seen")
    parser.add_argument("--scale", default="0,1", help="worst and best score of the set")
    parser.add_argument("--sources", default="ss01,ss03", help="how the names of rated images of two sources begin")
    parser.add_argument("--model", default="lite", help="model whose level and encoder are used (default: lite)")
    parser.add_argument("--features", required=True, help="folder that keeps features")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each refit of the drops")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="most examples of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the examples")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each row")
    parser.add_argument("--split-seed", type=int, default=0, help="of the rated images that are held back")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="folder of the tables")
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    loaded = load(args.model)
    params = experiment.frozen(loaded)
    model = build_model(experiment.configuration(loaded))
    encoders = Encoders(model, params, RULE, args.features)
    source = FolderSource(args.rated, mos_range=(0.0, 1.0))
    rated = Subset(source, np.flatnonzero(~in_validation(source.column("group"), args.split_seed)), source.name)
    names = [str(name) for name in rated.column("image_id")]
    real = FolderSource(args.set, mos_range=tuple(float(x) for x in args.scale.split(",")))
    recipe = dataclasses.replace(experiment.RECIPE, steps=args.steps)
    with Progress() as progress:
        moments = experiment.see_rated(encoders, rated, progress)
        examples, _ = experiment.see_examples(encoders, rated, args.pristine, args.seed, progress, args.examples)
        measured_on = evaluation(Kept(encoders, params, args.features, progress), real, args.held)
        level = {name: loaded.params["head"][name] for name in LEVEL}
        found = figures(model.head, level, examples, measured_on, recipe, args.seeds, progress)
        write(args.output / "deduction.md", parts_table(found, recipe, args.examples, measured_on))
        write(args.output / "types.md", types_table(model.head, level, examples, measured_on, recipe, progress))
        starts = args.sources.split(",")
        write(args.output / "cross_source.md", cross_source(model.head, moments, names, starts, recipe))
        write(args.output / "vectors.md", vectors_table(examples, measured_on))
    return 0


class Kept:
    """`Encoders` of single images, kept on disk: the arrays of images of unlike shapes cannot be stacked."""

    def __init__(self, encoders: Encoders, params: dict, folder: str | os.PathLike, progress: ProgressFn = silent):
        self._encoders, self._folder, self._progress = encoders, folder, progress
        self._key = {"format": 1, "view": RULE.to_dict(), "params": params_sha256(params)}

    def __call__(self, kind: str, images: Iterable[Callable[[], np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """The arrays of images, each given by what makes it, (H, W, 3) uint8; equal pixels are not seen again."""
        store, made = FeatureStore(self._folder, kind, self._key), list(images)

        def seen(number):
            image, name = made[number](), str(number)
            data = np.array(image.shape).tobytes() + np.ascontiguousarray(image).tobytes()
            if name not in store or not store.is_of(name, data):
                store.add([name], [data], {key: array[None] for key, array in self._encoders(image).items()})
            return {key: array[0] for key, array in store.read([name]).items()}

        found = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, each in enumerate(pool.map(seen, range(len(made)))):
                found.append(each)
                self._progress(f"features of {kind} images", done + 1, len(made))
        return found


def evaluation(kept: Kept, real: FolderSource, folder: str) -> Evaluation:
    """The features of a set of real photographs, and of degraded photographs of a folder."""
    no_squares = list(photographs(folder, squares=False).items())[:HUMAN_PHOTOS]
    human = [image for name, photo in no_squares for image in (photo, *degraded(photo, name))]
    cases = [case for case in where.cases(photographs(folder)) if case.measure in ("blob", "named")]
    return Evaluation(
        kept("real", [lambda row=row: decode(real.encoded(row)) for row in range(len(real))]),
        real.column("mos").astype(np.float64),
        kept("human", [lambda image=image: image for image in human]),
        cases,
        kept("faults", [lambda case=case: case.image for case in cases]),
    )


def figures(
    head: DeductionHead,
    level: dict,
    examples: Examples,
    measured_on: Evaluation,
    recipe: training.Recipe,
    seeds: int = SEEDS,
    progress: ProgressFn = silent,
    types: Sequence[str] = TYPES,
    weights: Sequence[float] = WEIGHTS,
) -> dict[str, list[dict[str, float | None]]]:
    """`measured` of each row of `ROWS` and each seed, rows by name."""
    found: dict[str, list[dict[str, float | None]]] = {name: [] for name in ROWS}
    for seed in range(seeds):
        trained: dict[type, dict] = {}
        for name, row in ROWS.items():
            if row.trained not in trained:
                learner = of_kind(row.trained, head, row.wider)
                own = dataclasses.replace(recipe, seed=recipe.seed + seed)
                trained[row.trained] = fit_drops(learner, level, examples, weights, own)
            used = of_kind(row.used, head, row.wider)
            found[name].append(measured(used, trained[row.trained], measured_on, types))
            progress("rows of the ablation", sum(map(len, found.values())), seeds * len(ROWS))
    return found


def of_kind(kind: type[DeductionHead], head: DeductionHead, wider: int = 1) -> DeductionHead:
    """A head of another class with the settings of `head`, its drops' hidden layer `wider` times as wide."""
    settings = {field.name: getattr(head, field.name) for field in dataclasses.fields(head) if field.init}
    settings = {name: value for name, value in settings.items() if name not in ("parent", "name")}
    return kind(**{**settings, "drop_width": head.drop_width * wider})


def measured(
    head: DeductionHead, params: dict, measured_on: Evaluation, types: Sequence[str] = TYPES
) -> dict[str, float | None]:
    """`FIGURES` by name. A level alone has no map and names nothing, so these figures are None."""
    run = reader(head, params)
    mos = np.array([run(each)["mos"] for each in measured_on.real])
    cells = human_cells(run, measured_on)
    values = [srcc(mos, measured_on.mos), *(agreement(cells, fidelity, draws=2).value for fidelity in (False, True))]
    if isinstance(head, LevelAlone):
        return dict(zip(FIGURES, [*values, None, None, None], strict=True))
    seen = []
    for each in measured_on.shown:
        out = run(each)
        # In points, as `where` counts; calibration is monotonic, so these figures do without it.
        seen.append(where.Seen(100 * out["mos"], 100 * out["patch_scores"], codes(types, out["visibility"])))
    known = {tuple(row[:2]): row[3].value for row in where.rows(measured_on.cases, seen)}
    first = "visible fault: its group is first"
    values += [known.get(key) for key in (("patch AUC", "all"), (first, "KADID-10k's types"), (first, "other types"))]
    return dict(zip(FIGURES, values, strict=True))


def human_cells(run: Callable, measured_on: Evaluation) -> np.ndarray:
    """The scores (P, 25, 5) that a `reader` gives degraded photographs."""
    human = np.array([run(each)["mos"] for each in measured_on.human]).reshape(-1, 1 + len(MEANS) * LEVELS)
    return human[:, 1:].reshape(len(human), len(MEANS), LEVELS)


def reader(head: DeductionHead, params: dict) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """From the arrays of an image to what the head says of it: `mos`, `patch_scores` (h, w), `visibility` (T,)."""
    model = DeductionModel(None, None, head)

    @jax.jit
    def run(params, moments, cells, vector, boxes):
        valid = jnp.array([[cells.shape[1] * STRIDE, cells.shape[2] * STRIDE]])
        views = {"valid": valid, "tile_boxes": boxes, "moments": moments, "cells": cells, "vector": vector}
        mos, out = model.apply({"params": {"head": params}}, views, method="read_score")
        return {"mos": mos[0], "patch_scores": out["patch_scores"][0], "visibility": out["visibility"][0]}

    def one(arrays):
        given = (np.float32(arrays[name])[None] for name in ("moments", "cells", "vector", "boxes"))
        return jax.device_get(run(params, *given))

    return one


def parts_table(found: Mapping[str, Sequence[Mapping]], recipe, examples: int, measured_on: Evaluation) -> Table:
    """The table of `figures`: means and, of several seeds, standard deviations."""
    seeds = max(len(runs) for runs in found.values())
    title = (
        f"Parts of the form, short refits: {recipe.steps} steps on at most {examples} examples of each kind, "
        f"{f'{seeds} seeds (mean ± standard deviation)' if seeds > 1 else 'one seed'}, one level for all rows; "
        f"{len(measured_on.mos)} real photos, {len(measured_on.human) // (1 + len(MEANS) * LEVELS)} photographs for "
        f"the human scale, {len(measured_on.cases)} images with known faults"
    )
    rows = [
        [name, *(_over_runs([run[figure] for run in runs]) for figure in FIGURES)]
        for name, runs in found.items()
        if runs
    ]
    return Table(title, ("row", *FIGURES), rows)


def _over_runs(values):
    if None in values:
        return "none"
    spread = float(np.std(values, ddof=1)) if len(set(values)) > 1 else None
    return RunEstimate(float(np.mean(values)), None, len(values), spread)


def types_table(
    head: DeductionHead,
    level: dict,
    examples: Examples,
    measured_on: Evaluation,
    recipe: training.Recipe,
    progress: ProgressFn = silent,
    types: Sequence[str] = TYPES,
    weights: Sequence[float] = WEIGHTS,
) -> Table:
    """The agreement with people on types of which the drops saw no example: KADID-10k's types in `FOLDS` folds, each
    scored by drops that learned from the examples of the others and of the types that KADID-10k does not have.

    Types of other folds may look alike, and the degradation encoder knows all types: the second row does without it.
    """
    rows = []
    for name in ("whole", "without degradation vectors"):
        learner, scored = of_kind(ROWS[name].trained, head), []
        for fold in range(FOLDS):
            params = fit_drops(learner, level, without(examples, [*MEANS][fold::FOLDS], types), weights, recipe)
            scored.append(human_cells(reader(learner, params), measured_on))
            progress("folds of types", fold + 1, FOLDS)
        cells = np.stack([scored[place % FOLDS][:, place] for place in range(len(MEANS))], axis=1)
        rows.append([name, *(Estimate(agreement(cells, fidelity, draws=2).value) for fidelity in (False, True))])
    title = (
        f"Agreement with people on KADID-10k's types in {FOLDS} folds, each left out of what the drops learn from, but "
        f"not what looks alike, nor of what the encoder knows; {recipe.steps} steps, one seed; {len(cells)} photographs"
    )
    return Table(title, ("row", *FIGURES[1:3]), rows)


def without(examples: Examples, names: Sequence[str], types: Sequence[str] = TYPES) -> Examples:
    """The examples of other degradations than these; those without one stay."""
    rows = ~np.isin(examples.types, [place for place, name in enumerate(types) if name in names])
    return Examples(*(each[rows] for each in examples))


def learned_level(head: DeductionHead, rated: Rated, recipe: training.Recipe, moments: np.ndarray) -> np.ndarray:
    """The level (M,) that `rated` teaches, of `moments` (M, F)."""
    return levels(head, fit_levels(head, rated, recipe), moments)


def cross_source(
    head: DeductionHead,
    rated: Rated,
    names: Sequence[str],
    sources: Sequence[str],
    recipe: training.Recipe,
) -> Table:
    """SRCC of a level that learns from one source of rated images on the other, beside a kernel ridge.

    `names` (N,) of the rated images; `sources`: how the names of two sources begin.
    """
    rows = []
    for learn, test in (sources, sources[::-1]):
        own, other = (np.array([name.startswith(start) for name in names]) for start in (learn, test))
        if not (own.any() and other.any()):
            raise UserError(f"rated images: no name begins with {learn if not own.any() else test}")
        part = Rated(rated.moments[own], rated.mos[own])
        predictions = (
            learned_level(head, part, recipe, rated.moments[other]),
            kernel_ridge([part.moments], part.mos, [rated.moments[other]]),
        )
        figures = [Estimate(srcc(each, rated.mos[other])) for each in predictions]
        rows.append([f"{learn} to {test}", int(own.sum()), int(other.sum()), *figures])
    title = f"SRCC across sources of rated images, {recipe.models} averaged levels of {recipe.epochs} epochs, one seed"
    return Table(title, ("sources", "learned from", "tested on", "level", "kernel ridge"), rows)


def vectors_table(examples: Examples, measured_on: Evaluation) -> Table:
    """What degradation vectors say of the quality of real photographs: kernel ridges on rated examples.

    The rated examples are the rated photographs as people saw them, or reduced, enlarged and encoded once more.
    """
    rows = np.flatnonzero(examples.kinds == "rated")
    learned = {"moments": examples.moments[rows], "d": np.float32(examples.vectors[rows]).mean(axis=1)}
    tested = {
        "moments": np.stack([each["moments"] for each in measured_on.real]),
        "d": np.stack([np.float32(each["vector"]).mean(axis=0) for each in measured_on.real]),
    }
    found = []
    for read in (["d"], ["moments"], ["moments", "d"]):
        given = ([kind[name] for name in read] for kind in (learned, tested))
        train, test = given
        predicted = kernel_ridge(train, np.float64(examples.base[rows]), test)
        found.append([" and ".join(read), len(rows), len(measured_on.mos), Estimate(srcc(predicted, measured_on.mos))])
    title = "SRCC on real photos of a kernel ridge on rated examples; d: the mean degradation vector"
    return Table(title, ("features", "learned from", "tested on", "SRCC"), found)


def write(path: pathlib.Path, table: Table) -> None:
    """Write the title and the table as Markdown."""
    io.write_text(path, f"{table.title}.\n\n{to_markdown(table)}")
    print(f"{table.title}\n{to_markdown(table)}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction.ablations: {error}")
