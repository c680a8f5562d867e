"""`driqa evaluate`: how well a model agrees with human scores on one split of one data set."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys

from driqa_jax.cli.options import add_model_options, loading
from driqa_jax.errors import UserError

_EXAMPLES = """\
examples:
  driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split test -o biq2021_test.json
  driqa evaluate --model runs/mine --data ratings.csv --mos-range 1 5 --split all

Prints and writes SRCC, KRCC, PLCC (raw, and after the customary 4-parameter logistic) and RMSE of MOS in [0,
1]: for the whole split, by subset, and for the "novel" pictures, those whose group stands in no other split.
SPLIT is a split of the data set, "all", or a part of one: train/val, train/fit, test/novel.

exit codes: 0 evaluated, 1 some pictures failed (they are in no figure), 2 usage error
"""


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
    parser.add_argument(
        "--data", required=True, metavar="NAME|CSV", help="a prepared set's name, or a CSV image,mos"
    )
    parser.add_argument(
        "--data-dir",
        metavar="D",
        help="where the set was prepared; for a CSV, where its images lie (default: beside it)",
    )
    parser.add_argument("--split", default="test", metavar="S", help="which pictures (default: test)")
    parser.add_argument("--seed", type=int, default=0, help="of the validation fold (default: 0)")
    parser.add_argument(
        "--mos-range",
        type=float,
        nargs=2,
        metavar=("WORST", "BEST"),
        help="scale of a CSV's scores (default: 0 1)",
    )
    parser.add_argument(
        "-o", "--output", metavar="R.json", help="write the report, with its provenance, to this file"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0, or 1 where a picture failed."""
    if args.output and not os.path.isdir(os.path.dirname(args.output) or "."):
        raise UserError(f"{args.output}: there is no folder {os.path.dirname(args.output)}; make it first")
    source, kind = open_data(args.data, args.data_dir, args.mos_range)
    from driqa_jax.data.splits import novel, select

    part = _checked(select, source, args.split, args.seed)
    import numpy as np

    from driqa_jax.evaluation.report import make_report
    from driqa_jax.scoring.provenance import describe
    from driqa_jax.scoring.scorer import load

    mos = part.column("mos")
    if not np.isfinite(mos).all():
        raise UserError(
            f"{args.data}: {int((~np.isfinite(mos)).sum())} pictures have no score to compare with"
        )
    scorer = load(args.model, **loading(args))
    images = (part.encoded(i) for i in range(len(part)))
    results = []
    for result in scorer.stream(images, names=part.column("image_id").tolist()):
        results.append(result)
        if len(results) % 100 == 0:
            print(f"{len(results)} of {len(part)}", file=sys.stderr)
    good = np.array([result.error is None for result in results])
    if not good.any():
        raise UserError(
            f"{args.data}: none of {len(part)} pictures could be scored; the first: {results[0].error}"
        )
    report = make_report(
        np.array([result.score for result in results if result.error is None]) / 100,
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
            },
            **describe(scorer),
        },
        subset=part.column("subset")[good],
        novel=novel(source, part)[good],
        failed=tuple({"path": result.path, "error": result.error} for result in results if result.error),
    )
    if args.output:
        report.save(args.output)
    from rich.console import Console

    Console().print(report.table())
    for failure in report.failed:
        print(f"{failure['path']}: {failure['error']}", file=sys.stderr)
    return 1 if report.failed else 0


def open_data(data: str, data_dir: str | None, mos_range: list[float] | None):
    """The source that `--data` means, and its kind: "fake", "folder" (a CSV) or "tfds". Raises UserError."""
    from driqa_jax.data.sources import open_source

    if data == "fake":
        return open_source("fake"), "fake"
    if data.lower().endswith(".csv") or os.path.exists(data):
        options = {"images": data_dir, **({"mos_range": tuple(mos_range)} if mos_range else {})}
        return _checked(open_source, "folder", data, **options), "folder"
    if not data_dir:
        raise UserError(f"--data {data}: give --data-dir, the folder that `driqa data prepare {data}` wrote")
    return _checked(open_source, "tfds", data_dir, data), "tfds"


def labels_sha256(part) -> str:
    """sha256 of the pictures' names and scores as they were compared."""
    rows = zip(part.column("image_id").tolist(), part.column("mos").tolist(), strict=True)
    return hashlib.sha256("".join(f"{name},{mos!r}\n" for name, mos in rows).encode()).hexdigest()


def _checked(action, *args, **options):
    try:
        return action(*args, **options)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
