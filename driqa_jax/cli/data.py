"""Check and prepare data sets that you have.

examples:
  driqa data list
  driqa data check biq2021 --data-dir BIQ2021
  driqa data prepare biq2021 --data-dir BIQ2021
  driqa data leaks biq2021 --data-dir BIQ2021/tfds
  driqa train --config configs/biq2021_lite.py --workdir runs/lite --config.data.path=BIQ2021/tfds

No command downloads data. `driqa data list` names the source of each set; keep its folder as its authors distribute it.
"""

import argparse
import os
import pathlib
import sys

from driqa_jax.cli.options import Subparsers, add_command, add_label_options
from driqa_jax.cli.sources import assign_split, open_data
from driqa_jax.data.datasets import NAMES
from driqa_jax.errors import UserError
from driqa_jax.progress import Progress

_SHOWN = 20  # defects in full; the others are counted


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "data", "check and prepare data sets", __doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_command(actions, "list", "list the data sets", _list.__doc__, run=_list)

    check = add_command(actions, "check", "report what is missing", _check.__doc__, run=_check)
    check.add_argument("--decode", action="store_true", help="also decode every image")
    original = "the data set's folder as its authors distribute it"
    check.add_argument("name", metavar="NAME|CSV", help=f"data set: {', '.join(NAMES)}; or a CSV image,mos")
    check.add_argument("--data-dir", metavar="D", help=f"{original}; for a CSV, of its images (default: its folder)")
    add_label_options(check)

    summary = "write a data set in the training format"
    prepare = add_command(actions, "prepare", summary, _prepare.__doc__, run=_prepare)
    prepare.add_argument("--out", metavar="O", help="output folder (default: tfds in the data's folder)")
    prepare.add_argument("name", choices=NAMES, metavar="NAME", help=f"data set: {', '.join(NAMES)}")
    prepare.add_argument("--data-dir", required=True, metavar="D", help=original)

    split = add_command(actions, "split", "write a split file", _split.__doc__, run=_split)
    split.add_argument("name", metavar="NAME|CSV", help="prepared data set, or CSV image,mos")
    rule = split.add_mutually_exclusive_group(required=True)
    rule.add_argument("--hash", type=int, metavar="K", help="split K (0, 1, ...) by stable hash, 80/20")
    rule.add_argument("--without", metavar="SUBSET", help="test on this subset, train on the others")
    rule.add_argument("--official", action="store_true", help="the split of the set's authors")
    rule.add_argument("--published", metavar="DIR", help="folder of ARNIQA's .npy files or LIQE's text files")
    about = "with --hash or --without: divide only this part of the set's split"
    split.add_argument("--of", default="", metavar="PART", help=about)
    split.add_argument("--number", type=int, default=0, metavar="N", help="number of ARNIQA's split (default: 0)")
    split.add_argument("-o", "--output", required=True, metavar="S.json", help="output file")

    leaks = add_command(actions, "leaks", "find images that sets or splits share", _leaks.__doc__, run=_leaks)
    leaks.add_argument("name", metavar="A", help="prepared data set, CSV image,mos, or folder of photographs")
    leaks.add_argument("other", nargs="?", metavar="B", help="second set (default: compare the splits of A)")
    leaks.add_argument("--split-file", metavar="S.json", help="compare the parts of this split of A")
    leaks.add_argument("--threshold", type=float, metavar="T", help="lowest similarity of one scene (default: 0.65)")
    leaks.add_argument("-o", "--output", metavar="OUT", help="folder for the CSV and contact sheet of the pairs")
    for parser in (split, leaks):
        parser.add_argument("--data-dir", metavar="D", help="folder of the prepared sets or of a CSV's images")
        add_label_options(parser)


def _list(args: argparse.Namespace) -> int:
    """List the data sets with image count and source."""
    from rich.console import Console
    from rich.table import Table

    from driqa_jax.data.datasets import layout_of

    table = Table("name", "images", "split", "scores", "from", box=None, pad_edge=False)
    for name in NAMES:
        layout = layout_of(name)
        split = " / ".join(map(str, layout.counts.values())) if len(layout.counts) > 1 else "-"
        table.add_row(name, str(sum(layout.counts.values())), split, layout.scores, layout.homepage)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print("\nAny other set: a CSV image,mos[,split][,group], or an IQA-PyTorch meta_info file.")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Compare a data set with what its authors distribute, and report what is missing.

    examples:
      driqa data check biq2021 --data-dir BIQ2021 --decode
      driqa data check ratings.csv --mos-range 1 5

    exit codes: 0 complete, 1 something is missing or broken, 2 nothing of the set was found, 130 Ctrl-C, 143 SIGTERM
    """
    from driqa_jax.data.datasets import layout_of
    from driqa_jax.data.prepare import check

    if args.name not in NAMES:
        return _check_table(args)
    if not args.data_dir:
        raise UserError(f"{args.name}: give --data-dir, the set's folder")
    with Progress() as progress:
        findings = check(args.name, pathlib.Path(args.data_dir), args.decode, progress)
    for split, (rated, expected, present) in findings.splits.items():
        print(f"{split}: {rated} of {expected} ratings, {present} images")
    if findings.scores:
        layout = layout_of(args.name)
        worst, best = layout.scale
        low, high = findings.scores
        print(f"raw scores: {low:g} to {high:g} ({layout.scores}); {worst:g} is worst, {best:g} best")
    for defect in findings.defects[:_SHOWN]:
        print(f"  {defect}")
    if len(findings.defects) > _SHOWN:
        print(f"  and {len(findings.defects) - _SHOWN} more")
    if findings.defects:
        return 1
    print(f"{args.name} is complete; next: driqa data prepare {args.name} --data-dir {args.data_dir}")
    return 0


def _check_table(args: argparse.Namespace) -> int:
    from collections import Counter

    from driqa_jax.data.prepare import broken

    if not (args.name.lower().endswith(".csv") or pathlib.Path(args.name).exists()):
        raise UserError(f"{args.name}: not a file and not a data set; the data sets are {', '.join(NAMES)}")
    source, _ = open_data(args, args.name)
    for split, count in Counter(source.column("split").tolist()).items():
        print(f"{split}: {count} ratings")
    with Progress() as progress:
        defects = list(broken(range(len(source)), source.read, source.label, progress)) if args.decode else []
    for defect in defects:
        print(f"  {defect}")
    return 1 if defects else 0


def _prepare(args: argparse.Namespace) -> int:
    """Write a data set in the training format: ArrayRecord files, with repeated images in one group.

    example:
      driqa data prepare biq2021 --data-dir BIQ2021 --out prepared

    A prepared set is kept. An interrupted run leaves no partial set.

    exit codes: 0 prepared, 2 cannot be prepared, 130 Ctrl-C, 143 SIGTERM
    """
    from driqa_jax.data.prepare import prepare

    out = args.out or str(pathlib.Path(args.data_dir) / "tfds")
    with Progress() as progress:
        folder = prepare(args.name, args.data_dir, out, progress)
    state = "is in" if progress.started else "was prepared already: it is in"
    print(f"{args.name} {state} {folder}; train on it with --config.data.path={out}")
    return 0


def _split(args: argparse.Namespace) -> int:
    """Write a split file: by stable hash, by subset, official or published.

    examples:
      driqa data split koniq10k --data-dir prepared --hash 3 -o koniq_3.json
      driqa data split biq2021 --data-dir prepared --hash 0 --of train -o biq2021_train_0.json
      driqa data split koniq10k --data-dir prepared --published ARNIQA/datasets/KonIQ-10k/splits --number 0 -o a0.json
      driqa train --config configs/biq2021_lite.py --config.data.split_file=koniq_3.json --config.data.train=train

    --hash assigns a fifth of the references to test and a tenth of the others to val; a set without references is
    divided by scene. The hash is the same in every process. The file records the rule and a sha256 of the assignment.

    exit codes: 0 written, 2 cannot be drawn, for example because it would divide a reference
    """
    from driqa_jax.data.split_file import hash_split, official_split, published_split, subset_split

    source, _ = open_data(args, args.name)
    if args.official:
        split = official_split(source)
    elif args.without:
        split = subset_split(source, args.without, of=args.of)
    elif args.published:
        split = published_split(pathlib.Path(args.published), source, args.number)
    else:
        split = hash_split(source, args.hash, of=args.of)
    split.save(args.output)
    counts = ", ".join(f"{part} {count}" for part, count in split.counts.items())
    print(f"{split.id}: {counts}; sha256 {split.sha256[:12]}; written to {args.output}")
    return 0


def _leaks(args: argparse.Namespace) -> int:
    """Find images that occur in two sets, or in two splits of one set, by perceptual hash.

    examples:
      driqa data leaks biq2021 --data-dir BIQ2021/tfds -o leaks
      driqa data leaks live tid2013 --data-dir prepared -o leaks
      driqa data leaks ratings.csv biq2021 --data-dir BIQ2021/tfds

    With one set, compares its splits. With two sets, compares all images of both. OUT receives a CSV of all pairs and a
    contact sheet of some.

    exit codes: 0 nothing is shared, 1 something is shared, 2 a set cannot be read, 130 Ctrl-C, 143 SIGTERM
    """
    from driqa_jax.data import leaks, near_duplicates

    threshold = near_duplicates.THRESHOLD if args.threshold is None else args.threshold
    source, _ = assign_split(_open_set(args, args.name), args.split_file)
    with Progress() as progress:
        if args.other:
            results = [leaks.leaks_between(source, _open_set(args, args.other), threshold, progress)]
        else:
            results = leaks.leaks_within(source, threshold, progress)
    for each in results:
        _print_leaks(each, leaks.REPEAT, threshold)
        if args.output:
            _save_leaks(each, args.output)
    return 1 if any(len(each.i) for each in results) else 0


def _open_set(args: argparse.Namespace, name: str):
    """The source of a prepared set, a CSV, or a folder of photographs."""
    from driqa_jax.data.open import open_source

    if os.path.isdir(name) and not any(file.lower().endswith(".csv") for file in os.listdir(name)):
        return open_source("photos", name)
    return open_data(args, name)[0]


def _print_leaks(leaks, repeat: float, threshold: float) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Column, Table

    heads = ("n", "with a near duplicate", "%", "repeated", "%")
    numbers = (Column(head, justify="right") for head in heads)
    table = Table("images", *numbers, title=f"{leaks.left.name} in {leaks.right.name}")
    subsets = [str(name) for name in np.unique(leaks.left.column("subset")) if name]
    for subset in [None, *(subsets if len(subsets) > 1 else [])]:
        count, near, same = leaks.shared(subset)
        shares = (f"{100 * part / count:.1f}" for part in (near, same))
        table.add_row(subset or "all", str(count), str(near), next(shares), str(same), next(shares))
    Console().print(table)
    print(f"near duplicate: similarity of at least {threshold:g}; repeat: of at least {repeat:g}")
    gap = leaks.mos_gap()
    if gap is not None:
        print(f"repeats differ by {gap:.3f} in MOS (0 to 1) on average")


def _save_leaks(leaks, folder: str) -> None:
    from driqa_jax.data.leaks import contact_sheet
    from driqa_jax.io import image_bytes, make_folder, write_bytes, write_text

    stem = f"{leaks.left.name}-{leaks.right.name}".replace(":", "_").replace("/", "_")
    stem = str(make_folder(folder) / stem)
    write_text(f"{stem}.csv", leaks.to_csv())
    written = f"{stem}.csv"
    if len(leaks.i):
        write_bytes(f"{stem}.jpg", image_bytes(contact_sheet(leaks), "JPEG", quality=85))
        written += f" and {stem}.jpg"
    print(f"written: {written}")
