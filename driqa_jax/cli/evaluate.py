"""`driqa evaluate`: how well a model agrees with human scores on one split of one data set."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys

from driqa_jax.cli.options import add_label_options, add_model_options, labels, loading, positive
from driqa_jax.errors import UserError
from driqa_jax.io import require_writable

_EXAMPLES = """\
examples:
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split test -o biq2021_test.json
  driqa evaluate --model runs/mine --data ratings.csv --mos-range 1 5 --split all
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split train/val --probes probes
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --scores other.csv --scores-lower niqe.csv \\
      --table table.tex --figures figures

Prints and writes SRCC, KRCC, PLCC (raw, and after the customary 4-parameter logistic) and RMSE of MOS in [0,
1]: for the whole split, by subset, by degradation, and for the "novel" pictures, those whose group stands in no other
split; each with the 95 % interval of a bootstrap over pictures. Other metrics' scores become rows of the same table,
followed by the difference, with its interval over the same resamples: within noise where that holds 0.
With --probes the two representations are examined instead, for being separate: MOS and the type of degradation read
from d, q, d~ and q~ by linear probes that never saw the scene, CKA before and after the interaction, and what the
restorer gains with the true and with another picture's d. SPLIT is then best one that the model did not learn from.
SPLIT is a split of the data set, "all", or a part of one: train/val, train/fit, test/novel.

exit codes: 0 evaluated, 1 some pictures failed (they are in no figure), 2 usage error
"""
_NO_MODEL = "none"


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare a model with human scores",
        description="Compare a model's scores with human scores.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_model_options(parser)
    parser.add_argument("--data", required=True, metavar="NAME|CSV", help="a prepared set's name, or a CSV image,mos")
    parser.add_argument(
        "--data-dir",
        metavar="D",
        help="where the set was prepared; for a CSV, where its images lie (default: beside it)",
    )
    parser.add_argument("--split", default="test", metavar="S", help="which pictures (default: test)")
    parser.add_argument(
        "--split-file", metavar="S.json", help="a split that `driqa data split` wrote, not the set's own"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the bootstrap; and the number of the fold in train/val (default: 0)"
    )
    add_label_options(parser)
    scores = parser.add_argument_group("another metric's scores of the same pictures (a CSV image,score; repeatable)")
    scores.add_argument("--scores", action="append", default=[], metavar="CSV", help="higher is better")
    scores.add_argument("--scores-lower", action="append", default=[], metavar="CSV", help="lower is better")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples for the intervals (default: 1000; 0: none)"
    )
    parser.add_argument("-o", "--output", metavar="R.json", help="write the report, with its provenance, to this file")
    parser.add_argument("--table", metavar="T", help="write the table to this .md, .csv or .tex file")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help="draw predicted against human scores, bars by degradation, what the intervals hold",
    )
    parser.add_argument("--per-image", metavar="P.csv", help="write each picture's score and MOS to this file")
    probes = parser.add_argument_group("how separate degradation and quality vectors are")
    probes.add_argument("--probes", metavar="DIR", help="write probes.json and probes.md to this folder, and no more")
    probes.add_argument(
        "--pristine",
        metavar="DIR",
        help="photographs to degrade (default: those of SPLIT with a MOS of .8 or more, halved in size)",
    )
    probes.add_argument(
        "--probe-photos", type=positive, default=24, metavar="N", help="how many of these to degrade (default: 24)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0, or 1 where a picture failed."""
    for path in (args.output, args.per_image):
        if path:
            require_writable(path)
    if args.probes and (args.model == _NO_MODEL or args.scores or args.scores_lower):
        raise UserError("--probes: needs a model, and compares no other metric's scores")
    if args.model == _NO_MODEL and not (args.scores or args.scores_lower):
        raise UserError("--model none: give the scores to evaluate with --scores or --scores-lower")
    source, kind = open_data(args.data, args.data_dir, **labels(args))
    from driqa_jax.data.source import labels_sha256
    from driqa_jax.data.splits import novel, select

    split = None
    if args.split_file:
        from driqa_jax.data.split_file import Split

        split = Split.load(args.split_file)
        source = split.assigned(source)
    part = _checked(select, source, args.split, args.seed)
    import numpy as np

    from driqa_jax.evaluation.bootstrap import LEVEL
    from driqa_jax.evaluation.coverage import coverage_line
    from driqa_jax.evaluation.report import make_report
    from driqa_jax.evaluation.tables import check_table, save_table, to_terminal

    if args.table:
        check_table(args.table)
    mos = part.column("mos")
    if not np.isfinite(mos).all():
        raise UserError(f"{args.data}: {int((~np.isfinite(mos)).sum())} pictures have no score to compare with")
    if args.probes:
        from driqa_jax.cli.probes import probe

        return probe(args, part)
    others = _other_scores(args, part)
    if args.model == _NO_MODEL:
        name = next(iter(others))
        score, failed, described, held = others.pop(name), {}, {"model": name}, None
    else:
        score, failed, described, held = _score(args, part)
    good = np.isfinite(score)
    report = make_report(
        score[good],
        mos[good],
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
            **described,
        },
        subset=part.column("subset")[good],
        novel=novel(source, part)[good],
        failed=tuple({"path": path, "error": error} for path, error in failed.items()),
        degradation=part.column("degradation")[good],
        others={name: values[good] for name, values in others.items()},
        draws=args.bootstrap,
        seed=args.seed,
    )
    if held:
        report = dataclasses.replace(report, coverage=held)
    if args.output:
        report.save(args.output)
    table = report.table()
    if args.table:
        save_table(table, args.table)
    if args.per_image:
        _save_per_image(args.per_image, part, score, good)
    if args.figures:
        _draw(args.figures, report, score[good], mos[good])
    if report.coverage:
        print(coverage_line(report.coverage))
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table, digits=4))
    for failure in report.failed:
        print(f"{failure['path']}: {failure['error']}", file=sys.stderr)
    return 1 if report.failed else 0


def _score(args: argparse.Namespace, part):
    """The model's scores of the pictures, (N,) in [0, 1], nan where one failed; what failed and why; the model; and
    what its intervals hold, None where it has none."""
    import numpy as np

    from driqa_jax.evaluation.coverage import coverage
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load
    from driqa_jax.progress import Progress

    scorer = load(args.model, **loading(args))
    score, half, failed = np.full(len(part), np.nan), np.full(len(part), np.nan), {}
    with Progress() as progress:
        for done, result in enumerate(scorer.stream(part.images(), names=part.column("image_id").tolist())):
            if result.error is None:
                score[done] = result.score / 100
                half[done] = np.nan if result.uncertainty is None else result.uncertainty / 100
            else:
                failed[result.path] = result.error
            progress("scoring", done + 1, len(part))
    if len(failed) == len(part):
        first = next(iter(failed.values()))
        raise UserError(f"{args.data}: none of {len(part)} pictures could be scored; the first: {first}")
    held = None
    if scorer.interval is not None:
        good = np.isfinite(score)
        held = coverage(score[good], half[good], part.column("mos")[good], scorer.interval.level)
    return score, failed, describe(scorer), held


def _other_scores(args: argparse.Namespace, part) -> dict:
    """The other metrics' scores by the names of their files, (N,) each, higher is better."""
    import pathlib

    from driqa_jax.evaluation.other_scores import read_scores

    found = {}
    for sign, paths in ((1, args.scores), (-1, args.scores_lower)):
        for path in map(pathlib.Path, paths):
            if path.stem in found:
                raise UserError(
                    f"{path}: two files of scores are called {path.stem}; the name is the row's, rename one"
                )
            found[path.stem] = sign * read_scores(path, part.column("image_id").tolist())
    return found


def _save_per_image(path: str, part, score, good) -> None:
    from driqa_jax.io import to_csv, write_text

    columns = (part.column("image_id"), score, part.column("mos"))
    rows = ([name, float(x), float(y)] for name, x, y in zip(*(c[good] for c in columns), strict=True))
    write_text(path, to_csv([["image", "score", "mos"], *rows]))


def _draw(folder: str, report, score, mos) -> None:
    from driqa_jax.evaluation.coverage import draw_coverage
    from driqa_jax.evaluation.figures import draw_bars, draw_scatter, save_figure

    os.makedirs(folder, exist_ok=True)
    title = f"{report.provenance['model']} on {report.data}, split {report.split}"
    save_figure(draw_scatter(score, mos, title), os.path.join(folder, "scatter.png"))
    bars = draw_bars(report)
    if bars is not None:
        save_figure(bars, os.path.join(folder, "bars.png"))
    if report.coverage:
        save_figure(draw_coverage(report.coverage, title), os.path.join(folder, "coverage.png"))


def open_data(data: str, data_dir: str | None, **options):
    """The source that `--data` means, and its kind: "fake", "folder" (a CSV) or "tfds". Raises UserError.

    options: as `driqa_jax.cli.options.labels` gives them. Standard error says which column of a CSV is taken.
    """
    from driqa_jax.data.label_columns import in_command
    from driqa_jax.data.open import open_source

    if data == "fake":
        return open_source("fake"), "fake"
    if data.lower().endswith(".csv") or os.path.exists(data):
        source = _checked(open_source, "folder", data, images=data_dir, option=in_command, **options)
        print(source.labels_from, file=sys.stderr)
        return source, "folder"
    if not data_dir:
        raise UserError(f"--data {data}: give --data-dir, the folder that `driqa data prepare {data}` wrote")
    return _checked(open_source, "tfds", data_dir, data), "tfds"


def _checked(action, *args, **options):
    try:
        return action(*args, **options)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
