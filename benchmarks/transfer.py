"""How well a model agrees with people on images that nobody trained on: one table.

    python -m benchmarks transfer --set livec=LIVEC/dev.csv --set avt=AVT/avt.csv --scale livec=0,100 --scale avt=1,5 \
        --pristine PHOTOS --model runs/new.safetensors --reference lite -o transfer.md

Each set is a CSV `image,mos`. `--pristine` is a folder of photographs that no training has seen; they are reduced to
512x384 and degraded as in `experiments.deduction.human_scale`. Intervals hold 95 % over images (human scale: over
photographs). The difference to the reference is paired: both models are resampled alike. A second table says how many
human scores of each set the intervals of the model hold once its scale is fitted to that of the set.
"""

import argparse
from collections.abc import Sequence

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
from experiments.deduction.human_scale import examine_human_scale, resampled_agreement

HUMAN = {"human scale, without color and tone": False, "human scale": True}


def main(argv: Sequence[str]) -> int:
    """Score the sets with the model and the reference, print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer", description=__doc__.split("\n")[0])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=CSV", help="images with human scores")
    parser.add_argument("--scale", action="append", default=[], metavar="NAME=WORST,BEST", help="of a set's scores")
    parser.add_argument("--pristine", help="folder of pristine photographs for the human scale")
    parser.add_argument("--model", default="lite", help="bundled name or weights file")
    parser.add_argument("--reference", help="model that the difference is taken to")
    parser.add_argument("--effort", default="default")
    parser.add_argument("-o", "--output", help="also write the tables, as Markdown")
    args = parser.parse_args(argv)
    names = [args.model, *([args.reference] if args.reference else [])]
    scorers = [driqa_jax.load(name, effort=args.effort) for name in names]
    scales = dict(_pair(text) for text in args.scale)
    rows = [_set_row(*_pair(text), scales, scorers) for text in args.set]
    if args.pristine:
        rows += _human_rows(args.pristine, scorers)
    if not rows:
        raise UserError("nothing to score: give --set NAME=CSV or --pristine FOLDER")
    heads = ("set", "images", args.model, *((args.reference, "difference") if args.reference else ()))
    table = Table("SRCC on images that nobody trained on", heads, [*rows, _means(rows)])
    held = [_coverage_row(*_pair(text), scales, scorers[0]) for text in args.set if scorers[0].interval]
    title = "Human scores inside the intervals of the model, by a monotone fit to the other half of the set"
    tables = [table, *([Table(title, ("set", "images", "promised", "held"), held)] if held else [])]
    text = "\n".join(f"{each.title}:\n\n{to_markdown(each)}" for each in tables)
    print(text)
    if args.output:
        io.write_text(args.output, text)
    return 0


def paired(predictions: Sequence[np.ndarray], mos: np.ndarray) -> list[Estimate]:
    """SRCC of one or two models on the same images; of two also the difference first - second, all with intervals."""
    values = [srcc(each, mos) for each in predictions]
    draws = [replicates(each, mos)["srcc"] for each in predictions]
    return _with_difference([np.nan if value is None else value for value in values], draws, len(mos))


def human(cells: Sequence[np.ndarray], fidelity: bool) -> list[Estimate]:
    """As `paired` for the cells (P, 25, 5) of one or two models; intervals hold over photographs."""
    found = [resampled_agreement(each, fidelity) for each in cells]
    return _with_difference([value for value, _ in found], [drawn for _, drawn in found], len(cells[0]))


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


def _with_difference(values, draws, count):
    if len(values) == 2:
        values, draws = [*values, values[0] - values[1]], [*draws, draws[0] - draws[1]]
    return [
        Estimate(None if np.isnan(value) else value, intervals({"": drawn})[""] if count > 1 else None, count)
        for value, drawn in zip(values, draws, strict=True)
    ]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"{text!r} must have the form NAME=VALUE")
    return name, value


def _set_row(name, path, scales, scorers):
    source = _source(name, path, scales)
    mos = source.column("mos").astype(np.float64)
    images = [source.encoded(row) for row in range(len(source))]
    return [name, len(mos), *paired([np.array(list(scorer.predict(images))) for scorer in scorers], mos)]


def _coverage_row(name, path, scales, scorer):
    source = _source(name, path, scales)
    results = list(scorer.stream(source.encoded(row) for row in range(len(source))))
    score, half = (np.array([getattr(each, part) for each in results], np.float64) for part in ("score", "uncertainty"))
    inside = covered(score, half, source.column("mos").astype(np.float64))
    return [name, len(inside), Estimate(scorer.interval.level), estimate(inside)]


def _source(name, path, scales):
    return FolderSource(path, mos_range=tuple(float(x) for x in scales[name].split(",")) if name in scales else None)


def _human_rows(folder, scorers):
    photos = photographs(folder, squares=False)
    cells = [
        examine_human_scale(lambda images, scorer=scorer: np.array(list(scorer.predict(images))), photos)[1]
        for scorer in scorers
    ]
    return [[name, len(photos), *human(cells, fidelity)] for name, fidelity in HUMAN.items()]


def _means(rows):
    columns = [[each.value for each in column] for column in zip(*(row[2:] for row in rows), strict=True)]
    return [
        "mean",
        sum(row[1] for row in rows),
        *(Estimate(None if None in values else float(np.mean(values))) for values in columns),
    ]
