"""`driqa data`: look at a data set as its authors made it, and prepare it for training."""

from __future__ import annotations

import argparse
import pathlib
import sys

from driqa_jax.cli import data_sets
from driqa_jax.cli.options import add_label_options, labels
from driqa_jax.data.datasets import NAMES
from driqa_jax.errors import UserError
from driqa_jax.progress import Progress

_SHOWN = 20  # defects said one by one; the rest are counted
_EXAMPLES = """\
examples:
  driqa data list
  driqa data check biq2021 --data-dir BIQ2021
  driqa data prepare biq2021 --data-dir BIQ2021
  driqa data leaks biq2021 --data-dir BIQ2021/tfds
  driqa train --config configs/biq2021_lite.py --workdir runs/lite --config.data.path=BIQ2021/tfds

Nothing is downloaded: `driqa data list` says where each set comes from; give its folder as its authors made it.
"""
_CHECK_EXAMPLES = """\
examples:
  driqa data check biq2021 --data-dir BIQ2021 --decode
  driqa data check ratings.csv --mos-range 1 5

exit codes: 0 all is there, 1 something is missing or broken, 2 nothing of the set is there, 130 Ctrl-C, 143
SIGTERM
"""
_PREPARE_EXAMPLES = """\
example:
  driqa data prepare biq2021 --data-dir BIQ2021 --out prepared

A set that is prepared already is kept. Stopped half-way, it leaves nothing that could be read by mistake.

exit codes: 0 it is prepared, 2 it cannot be, 130 Ctrl-C, 143 SIGTERM
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    style = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = subparsers.add_parser(
        "data",
        help="check and prepare data sets",
        description="Check and prepare data sets that you have.",
        epilog=_EXAMPLES,
        **style,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="say which data sets there are",
        description="Say which data sets there are, how many pictures they have, and where they come from.",
        **style,
    )
    listing.set_defaults(run=run)
    check = actions.add_parser(
        "check",
        help="say what is there and what is missing",
        description="Say what is there of a data set, against what its authors give, and what is missing.",
        epilog=_CHECK_EXAMPLES,
        **style,
    )
    check.add_argument("--decode", action="store_true", help="decode every picture too")
    prepare = actions.add_parser(
        "prepare",
        help="write a data set as training reads it",
        description="Write a data set as training reads it: ArrayRecord files, repeats in one group.",
        epilog=_PREPARE_EXAMPLES,
        **style,
    )
    prepare.add_argument("--out", metavar="O", help="folder to write to (default: tfds in the data's folder)")
    data_sets.add_actions(actions, style)
    whose = "the data set's folder, as its authors made it"
    check.add_argument("name", metavar="NAME|CSV", help=f"the data set: {', '.join(NAMES)}; or a CSV image,mos")
    check.add_argument("--data-dir", metavar="D", help=f"{whose}; for a CSV, where its images lie (default: beside it)")
    add_label_options(check)
    prepare.add_argument("name", choices=NAMES, metavar="NAME", help=f"the data set: {', '.join(NAMES)}")
    prepare.add_argument("--data-dir", required=True, metavar="D", help=whose)
    for action in (check, prepare):
        action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List, check or prepare; returns 0, or 1 where a check found something missing."""
    return {"list": _list, "check": _check, "prepare": _prepare}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from driqa_jax.data.datasets import layout_of

    table = Table("name", "pictures", "split", "scores", "from", box=None, pad_edge=False)
    for name in NAMES:
        layout = layout_of(name)
        split = " / ".join(map(str, layout.counts.values())) if len(layout.counts) > 1 else "-"
        table.add_row(name, str(sum(layout.counts.values())), split, layout.scores, layout.homepage)
    Console(width=200 if not sys.stdout.isatty() else None).print(table)
    print("\nAny other set: a CSV image,mos[,split][,group], or an IQA-PyTorch meta_info file.")
    return 0


def _check(args: argparse.Namespace) -> int:
    from driqa_jax.data.datasets import layout_of
    from driqa_jax.data.prepare import check

    if args.name not in NAMES:
        return _check_table(args)
    if not args.data_dir:
        raise UserError(f"{args.name}: give --data-dir, the set's folder")
    with Progress() as progress:
        found = check(args.name, pathlib.Path(args.data_dir), args.decode, progress)
    for split, (rated, expected, present) in found.splits.items():
        print(f"{split}: {rated} of {expected} ratings, {present} pictures")
    if found.scores:
        layout = layout_of(args.name)
        worst, best = layout.scale
        low, high = found.scores
        print(f"raw scores: {low:g} to {high:g} ({layout.scores}); {worst:g} is worst, {best:g} best")
    for defect in found.defects[:_SHOWN]:
        print(f"  {defect}")
    if len(found.defects) > _SHOWN:
        print(f"  and {len(found.defects) - _SHOWN} more")
    if found.defects:
        return 1
    print(f"{args.name} is complete; next: driqa data prepare {args.name} --data-dir {args.data_dir}")
    return 0


def _check_table(args: argparse.Namespace) -> int:
    from collections import Counter

    from driqa_jax.cli.evaluate import open_data
    from driqa_jax.data.prepare import broken

    if not (args.name.lower().endswith(".csv") or pathlib.Path(args.name).exists()):
        raise UserError(f"{args.name} is no file; the data sets are {', '.join(NAMES)}")
    source, _ = open_data(args.name, args.data_dir, **labels(args))
    for split, count in Counter(source.column("split").tolist()).items():
        print(f"{split}: {count} ratings")
    with Progress() as progress:
        defects = list(broken(range(len(source)), source.read, source.label, progress)) if args.decode else []
    for defect in defects:
        print(f"  {defect}")
    return 1 if defects else 0


def _prepare(args: argparse.Namespace) -> int:
    from driqa_jax.data.prepare import prepare

    out = args.out or str(pathlib.Path(args.data_dir) / "tfds")
    with Progress() as progress:
        folder = prepare(args.name, args.data_dir, out, progress)
    was = "is in" if progress.started else "was prepared already: it is in"
    print(f"{args.name} {was} {folder}; train on it with --config.data.path={out}")
    return 0
