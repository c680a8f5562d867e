"""How well a model agrees with people on images that nobody trained on: one table.

    python -m benchmarks transfer --set livec=LIVEC/dev.csv --set avt=AVT/avt.csv --scale livec=0,100 --scale avt=1,5 \
        --pristine PHOTOS --model runs/new.safetensors --reference lite --reference lite-0.5 -o transfer.md

Each set is a CSV `image,mos`. `--pristine` is a folder of photographs that no training has seen; they are reduced to
512x384 and degraded as in `experiments.deduction.human_scale`. Intervals hold 95 % over images (human scale: over
photographs). The difference to a reference is paired: both models are resampled alike. A second table says how many
human scores of each set the intervals of the model hold once its scale is fitted to that of the set.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import isotonic_regression

import driqa_jax
from benchmarks.photographs import photographs
from driqa_jax import io
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate, estimate, intervals, replicates
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.tables import Table, to_markdown
from driqa_jax.inference.scorer import Scorer
from experiments.deduction.human_scale import examine_human_scale, resampled_agreement

HUMAN = {"human scale, without color and tone": False, "human scale": True}
# Images, encoded or (H, W, 3) uint8, to the scores (N,) of each model that is compared, the first one first.
PredictFn = Callable[[Sequence[bytes | np.ndarray]], Sequence[np.ndarray]]


def main(argv: Sequence[str]) -> int:
    """Score the sets with the model and the references, print the tables. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer", description=__doc__.split("\n")[0])
    add_sets(parser)
    parser.add_argument("--model", default="lite", help="bundled name or weights file")
    parser.add_argument("--reference", action="append", default=[], help="model that a difference is taken to")
    parser.add_argument("--effort", default="default")
    parser.add_argument("-o", "--output", help="also write the tables, as Markdown")
    args = parser.parse_args(argv)
    names = [args.model, *args.reference]
    scorers = [driqa_jax.load(name, effort=args.effort) for name in names]
    sets = sources(args)
    tables = [compared(names, lambda images: [scores(each, images) for each in scorers], sets, args.pristine)]
    if scorers[0].interval and sets:
        held = [_coverage_row(name, source, scorers[0]) for name, source in sets.items()]
        title = "Human scores inside the intervals of the model, by a monotone fit to the other half of the set"
        tables.append(Table(title, ("set", "images", "promised", "held"), held))
    write(tables, args.output)
    return 0


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the options that name images with human scores."""
    parser.add_argument("--set", action="append", default=[], metavar="NAME=CSV", help="images with human scores")
    parser.add_argument("--scale", action="append", default=[], metavar="NAME=WORST,BEST", help="of a set's scores")
    parser.add_argument("--pristine", help="folder of pristine photographs for the human scale")


def sources(args: argparse.Namespace) -> dict[str, FolderSource]:
    """The sets by name. Raises UserError where an option is no pair, and if there is nothing to score."""
    scales = {name: tuple(float(x) for x in text.split(",")) for name, text in map(_pair, args.scale)}
    if not (args.set or args.pristine):
        raise UserError("nothing to score: give --set NAME=CSV or --pristine FOLDER")
    return {name: FolderSource(path, mos_range=scales.get(name)) for name, path in map(_pair, args.set)}


def scores(scorer: Scorer, images: Sequence[bytes | np.ndarray]) -> np.ndarray:
    """The scores (N,) of a scorer."""
    return np.array(list(scorer.predict(images)))


def compared(
    names: Sequence[str], predict: PredictFn, sets: Mapping[str, FolderSource], pristine: str | None = None
) -> Table:
    """SRCC of each model of `predict` on each set and on the human scale, each but the first with the difference of the
    first to it."""
    rows = []
    for name, source in sets.items():
        images = [source.encoded(row) for row in range(len(source))]
        mos = source.column("mos").astype(np.float64)
        rows.append([name, len(mos), *paired(predict(images), mos)])
    if pristine:
        photos = photographs(pristine, squares=False)
        cells = examine_human_scale(lambda images: np.stack(predict(images), axis=-1), photos)[1]
        cells = np.moveaxis(cells, -1, 0)
        rows += [[name, len(photos), *human(cells, fidelity)] for name, fidelity in HUMAN.items()]
    heads = ("set", "images", names[0], *(head for name in names[1:] for head in (name, "difference")))
    return Table("SRCC on images that nobody trained on", heads, [*rows, _means(rows)])


def write(tables: Sequence[Table], path: str | None) -> None:
    """Print tables under their titles and write them to a file."""
    text = "\n".join(f"{each.title}:\n\n{to_markdown(each)}" for each in tables)
    print(text)
    if path:
        io.write_text(path, text)


def paired(predictions: Sequence[np.ndarray], mos: np.ndarray) -> list[Estimate]:
    """SRCC of each model on the same images, each but the first with the difference of the first to it; intervals."""
    values = [srcc(each, mos) for each in predictions]
    draws = [replicates(each, mos)["srcc"] for each in predictions]
    return _with_differences([np.nan if value is None else value for value in values], draws, len(mos))


def human(cells: Sequence[np.ndarray], fidelity: bool) -> list[Estimate]:
    """As `paired` for the cells (P, 25, 5) of each model; intervals hold over photographs."""
    found = [resampled_agreement(each, fidelity) for each in cells]
    return _with_differences([value for value, _ in found], [drawn for _, drawn in found], len(cells[0]))


def covered(score: np.ndarray, half_width: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """Which of `mos` lie inside `score +- half_width`, all (N,): (N,) bool.

    A set has its own scale. So both ends of an interval are mapped by an isotonic regression of `mos` on `score`, in
    each random half of the images by that of the other half.
    """
    inside, other = np.zeros(len(mos), bool), np.random.default_rng(0).permutation(len(mos)) % 2 == 0
    for half in (other, ~other):
        order = np.flatnonzero(~half)[np.argsort(score[~half], kind="stable")]
        fitted = isotonic_regression(mos[order]).x
        low, high = (np.interp(score[half] + side * half_width[half], score[order], fitted) for side in (-1, 1))
        inside[half] = (low <= mos[half]) & (mos[half] <= high)
    return inside


def _with_differences(values, draws, count):
    found = [(values[0], draws[0])]
    for value, drawn in zip(values[1:], draws[1:], strict=True):
        found += [(value, drawn), (values[0] - value, draws[0] - drawn)]
    return [
        Estimate(None if np.isnan(value) else value, intervals({"": drawn})[""] if count > 1 else None, count)
        for value, drawn in found
    ]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"{text!r} must have the form NAME=VALUE")
    return name, value


def _coverage_row(name, source, scorer):
    results = list(scorer.stream(source.encoded(row) for row in range(len(source))))
    score, half = (np.array([getattr(each, part) for each in results], np.float64) for part in ("score", "uncertainty"))
    inside = covered(score, half, source.column("mos").astype(np.float64))
    return [name, len(inside), Estimate(scorer.interval.level), estimate(inside)]


def _means(rows):
    columns = [[each.value for each in column] for column in zip(*(row[2:] for row in rows), strict=True)]
    return [
        "mean",
        sum(row[1] for row in rows),
        *(Estimate(None if None in values else float(np.mean(values))) for values in columns),
    ]
