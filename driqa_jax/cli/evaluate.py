"""Compare a model's scores with human scores.

examples:
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split test -o biq2021_test.json
  driqa evaluate --model runs/mine --data ratings.csv --mos-range 1 5 --split all
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split train/val --model lite-0.5 --probes probes
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --scores other.csv --scores-lower niqe.csv \\
      --table table.tex --figures figures
  driqa evaluate --data phones.csv --data others/livec.csv --split all --scores 'brisque_{set}.csv' \\
      -o cross.json --table cross.md

Prints and writes SRCC, KRCC, PLCC (raw, and after the usual 4-parameter logistic) and RMSE of MOS in [0, 1]. Rows are
the whole split, each subset, each degradation, and the "novel" images, whose group occurs in no other split. Each value
has the 95 % interval of a bootstrap over images. Other metrics' scores add rows to the table and rows of differences,
with intervals over the same resamples. A difference is within noise if its interval contains 0.

Several --data give one cross table: SRCC and fitted PLCC of each source of scores on each set, and their means over the
sets. --data-dir, --split and --split-file then apply to all sets, or are given once for each, in the same order (an
empty one for none). {set} in the name of a file of scores stands for the name of the set, or its CSV's without .csv.

--probes examines how well the two representations are separated. Linear probes predict MOS and degradation type from d,
q, d~ and q~ on scenes they were not fitted on. CKA is measured before and after the interaction. The gain of the
restorer is measured with the true d and with the d of another image. Use a SPLIT that the model was not trained on,
and a model with a restoration network, such as lite-0.5.

SPLIT is a split of the data set, "all", or a part of one: train/val, train/fit, test/novel.

exit codes: 0 evaluated, 1 some images failed (results exclude them), 2 usage error
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from driqa_jax.cli.cross import cross_evaluate, one_by_one
from driqa_jax.cli.options import (
    Subparsers,
    add_command,
    add_label_options,
    add_model_options,
    add_split_file_option,
    loading,
    positive,
)
from driqa_jax.cli.sources import assign_split, open_data, report_failures
from driqa_jax.errors import UserError, user_errors
from driqa_jax.io import make_folder, require_writable

if TYPE_CHECKING:
    import numpy as np

    from driqa_jax.data.source import Source
    from driqa_jax.data.split_file import Split
    from driqa_jax.evaluation.report import Report
    from driqa_jax.inference.scorer import Scorer

_NO_MODEL = "none"


class Predictions(NamedTuple):
    """Scores of a model on N images.

    score: (N,) float64 in [0, 1], NaN for a failed image. failed: the reason by image. provenance: of the model.
    coverage: of its intervals, None without intervals.
    """

    score: np.ndarray
    failed: dict[str, str]
    provenance: dict[str, Any]
    coverage: dict[str, Any] | None


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "evaluate", "compare a model with human scores", __doc__, run=run)
    add_model_options(parser)
    add = parser.add_argument
    about = "prepared data set, or CSV image,mos; repeatable"
    add("--data", required=True, action="append", metavar="NAME|CSV", help=about)
    about = "folder of the prepared set; for a CSV, of its images (default: its folder)"
    add("--data-dir", action="append", default=[], metavar="D", help=about)
    add("--split", action="append", metavar="S", help="images to score (default: test)")
    add_split_file_option(parser, action="append", default=[])
    add("--seed", type=int, default=0, help="seed of the bootstrap, and fold number of train/val (default: 0)")
    add_label_options(parser)
    scores = parser.add_argument_group("scores of another metric for the same images (CSV image,score; repeatable)")
    scores.add_argument("--scores", action="append", default=[], metavar="CSV", help="higher is better")
    scores.add_argument("--scores-lower", action="append", default=[], metavar="CSV", help="lower is better")
    about = "resamples for the intervals (default: 1000; 0: none)"
    add("--bootstrap", type=int, default=1000, metavar="N", help=about)
    add("-o", "--output", metavar="R.json", help="write the report and its provenance to this file")
    add("--table", metavar="T", help="write the table to this .md, .csv or .tex file")
    about = "write plots: predicted against human scores, degradations, interval coverage"
    add("--figures", metavar="DIR", help=about)
    add("--per-image", metavar="P.csv", help="write score and MOS of each image to this file")
    probes = parser.add_argument_group("separation of degradation and quality vectors")
    probes.add_argument("--probes", metavar="DIR", help="write only probes.json and probes.md, to this folder")
    about = "photographs to degrade (default: images of SPLIT with a MOS of at least 0.8, at half size)"
    probes.add_argument("--pristine", metavar="DIR", help=about)
    about = "number of photographs to degrade (default: 24)"
    probes.add_argument("--probe-photos", type=positive, default=24, metavar="N", help=about)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0, or 1 if an image failed."""
    _check_options(args)
    if args.table:
        from driqa_jax.evaluation.tables import check_table

        check_table(args.table)
    sets = one_by_one(args)
    if len(sets) > 1:
        images = [choose(one) for one in sets]  # a wrong path or column fails before the model is loaded
        scorer = scorer_of(args)
        return cross_evaluate(
            args, sets, [functools.partial(evaluate, *each, scorer) for each in zip(sets, images, strict=True)]
        )
    (args,) = sets
    chosen = choose(args)
    if args.probes:
        from driqa_jax.cli.probes import probe

        return probe(args, chosen.part)
    report, score = evaluate(args, chosen, scorer_of(args))
    _write(args, chosen.part, report, score)
    return report_failures((failure["path"], failure["error"]) for failure in report.failed)


class Chosen(NamedTuple):
    """The images to evaluate on: `part` of `source`, which is of a kind of `open_data`; with the split file, if any."""

    source: Source
    kind: str
    split: Split | None
    part: Source
    others: dict[str, np.ndarray]


def choose(args: argparse.Namespace) -> Chosen:
    """The images of one data set and the other metrics' scores of them. Raises UserError."""
    source, kind = open_data(args, args.data)
    import numpy as np

    from driqa_jax.data.splits import select

    source, split = assign_split(source, args.split_file)
    with user_errors():
        part = select(source, args.split, args.seed)
    missing = int((~np.isfinite(part.column("mos"))).sum())
    if missing:
        raise UserError(f"{args.data}: {missing} images have no score to compare with")
    return Chosen(source, kind, split, part, {} if args.probes else _other_scores(args, part))


def scorer_of(args: argparse.Namespace) -> Scorer | None:
    """The scorer; None for `--model none`."""
    if args.model == _NO_MODEL:
        return None
    from driqa_jax.inference.scorer import load

    return load(args.model, **loading(args))


def evaluate(args: argparse.Namespace, chosen: Chosen, scorer: Scorer | None) -> tuple[Report, np.ndarray]:
    """The report of one data set, and the score of each image, NaN for a failed one. Raises UserError."""
    others = dict(chosen.others)
    if scorer is None:
        name = next(iter(others))
        predictions = Predictions(others.pop(name), {}, {"model": name}, None)
    else:
        predictions = _score(args, chosen.part, scorer)
    return _report(args, chosen, predictions, others), predictions.score


def _check_options(args: argparse.Namespace) -> None:
    for path in (args.output, args.per_image):
        if path:
            require_writable(path)
    for option in ("probes", "per_image", "figures") if len(args.data) > 1 else ():
        if getattr(args, option):
            raise UserError(f"--{option.replace('_', '-')}: works with one --data at a time")
    others = args.scores + args.scores_lower
    sets = {pathlib.Path(data).stem for data in args.data}
    if len(sets) < len(set(args.data)) and any("{set}" in path for path in others):
        raise UserError("--scores: {set} is the same name for several --data; rename a CSV")
    if args.probes and (args.model == _NO_MODEL or others):
        raise UserError("--probes: needs a model, and cannot be combined with --scores or --scores-lower")
    if args.model == _NO_MODEL and not others:
        raise UserError("--model none: give the scores to evaluate with --scores or --scores-lower")


def _report(args: argparse.Namespace, chosen: Chosen, predictions: Predictions, others: dict) -> Report:
    """The report on the images that have a score."""
    source, kind, split, part, _ = chosen
    import numpy as np

    from driqa_jax.data.source import labels_sha256
    from driqa_jax.data.splits import novel
    from driqa_jax.evaluation.bootstrap import LEVEL
    from driqa_jax.evaluation.report import make_report

    good = np.isfinite(predictions.score)
    report = make_report(
        predictions.score[good],
        part.column("mos")[good],
        data=source.name,
        split=args.split,
        provenance={
            "data": {
                "kind": kind,
                "given_as": args.data,
                "seed": args.seed,
                "mos_range": args.mos_range,
                "labels_sha256": labels_sha256(part),
                "label_files": dict(source.label_files),
                "split": split and {"id": split.id, "rule": dict(split.rule), "sha256": split.sha256},
            },
            "bootstrap": {"resamples": args.bootstrap, "seed": args.seed, "level": LEVEL},
            **predictions.provenance,
        },
        subset=part.column("subset")[good],
        novel=novel(source, part)[good],
        failed=tuple({"path": path, "error": error} for path, error in predictions.failed.items()),
        degradation=part.column("degradation")[good],
        others={name: values[good] for name, values in others.items()},
        draws=args.bootstrap,
        seed=args.seed,
    )
    return dataclasses.replace(report, coverage=predictions.coverage) if predictions.coverage else report


def _write(args: argparse.Namespace, part, report, score) -> None:
    """Write the files that the options name, then print the table."""
    import numpy as np
    from rich.console import Console

    from driqa_jax.evaluation.report import coverage_line
    from driqa_jax.evaluation.tables import save_table, to_terminal
    from driqa_jax.io import to_csv, write_text

    good = np.isfinite(score)
    if args.output:
        report.save(args.output)
    table = report.table()
    if args.table:
        save_table(table, args.table)
    score, mos, names = (values[good].tolist() for values in (score, part.column("mos"), part.column("image_id")))
    if args.per_image:
        write_text(args.per_image, to_csv([("image", "score", "mos"), *zip(names, score, mos, strict=True)]))
    if args.figures:
        _draw(args.figures, report, np.array(score), np.array(mos))
    if report.coverage:
        print(coverage_line(report.coverage))
    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table, digits=4))


def _score(args: argparse.Namespace, part, scorer: Scorer) -> Predictions:
    """The model's predictions for the images of `part`. Raises UserError if no image can be scored."""
    import numpy as np

    from driqa_jax.evaluation.report import coverage
    from driqa_jax.inference.provenance import describe
    from driqa_jax.progress import Progress

    score, half, failed = np.full(len(part), np.nan), np.full(len(part), np.nan), {}
    with Progress() as progress:
        for row, result in enumerate(scorer.stream(part.images(), names=part.column("image_id").tolist())):
            if result.error is None:
                score[row] = result.score / 100
                half[row] = np.nan if result.uncertainty is None else result.uncertainty / 100
            else:
                failed[result.path] = result.error
            progress("scoring", row + 1, len(part))
    if len(failed) == len(part):
        first = next(iter(failed.values()))
        raise UserError(f"{args.data}: none of {len(part)} images could be scored; the first: {first}")
    measured = None
    if scorer.interval is not None:
        good = np.isfinite(score)
        measured = coverage(score[good], half[good], part.column("mos")[good], scorer.interval.level)
    return Predictions(score, failed, describe(scorer), measured)


def _other_scores(args: argparse.Namespace, part) -> dict[str, np.ndarray]:
    """The scores of other metrics by file stem, (N,) float, negated if lower is better. Raises UserError."""
    from driqa_jax.data.csv_source import read_scores

    scores, name = {}, pathlib.Path(args.data).stem
    for sign, paths in ((1, args.scores), (-1, args.scores_lower)):
        for path in map(pathlib.Path, paths):
            stem = path.stem
            if "{set}" in stem:
                stem = stem.replace("{set}", "").strip("_-. ") or path.parent.name or stem
            if stem in scores:
                raise UserError(f"{path}: another file of scores has the name {stem}; rename one of them")
            file = pathlib.Path(str(path).replace("{set}", name))
            scores[stem] = sign * read_scores(file, part.column("image_id").tolist())
    return scores


def _draw(folder: str, report, score, mos) -> None:
    from driqa_jax.evaluation.figures import draw_bars, draw_coverage, draw_scatter, save_figure

    directory = make_folder(folder)
    title = f"{report.provenance['model']} on {report.data}, split {report.split}"
    save_figure(draw_scatter(score, mos, title), directory / "scatter.png")
    if (bars := draw_bars(report)) is not None:
        save_figure(bars, directory / "bars.png")
    if report.coverage:
        save_figure(draw_coverage(report.coverage, title), directory / "coverage.png")
