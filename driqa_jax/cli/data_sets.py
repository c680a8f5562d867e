"""The parts of `driqa data` that look at sets as sources: `split` and `leaks`."""

from __future__ import annotations

import argparse
import os
import pathlib

from driqa_jax.cli.options import add_label_options, labels

_SPLIT_EXAMPLES = """\
examples:
  driqa data split koniq10k --data-dir prepared --hash 3 -o koniq_3.json
  driqa data split biq2021 --data-dir prepared --hash 0 --of train -o biq2021_train_0.json
  driqa data split koniq10k --data-dir prepared --published ARNIQA/datasets/KonIQ-10k/splits --number 0 -o a0.json
  driqa train --config configs/biq2021_lite.py --config.data.split_file=koniq_3.json --config.data.train=train

A fifth of the references (where there are none: of the scenes) is test, a tenth of the others val, by a hash that is
the same in every process. The file says which rule was followed and the sha256 of who is where.

exit codes: 0 it is written, 2 it cannot be drawn, as where it parts a reference
"""
_LEAKS_EXAMPLES = """\
examples:
  driqa data leaks biq2021 --data-dir BIQ2021/tfds -o leaks
  driqa data leaks live tid2013 --data-dir prepared -o leaks
  driqa data leaks ratings.csv biq2021 --data-dir BIQ2021/tfds

One set: between its splits. Two: between all of one and all of the other. OUT gets a CSV of all pairs, and a picture of
some of them.

exit codes: 0 nothing is shared, 1 something is, 2 a set cannot be read, 130 Ctrl-C, 143 SIGTERM
"""


def add_actions(actions, style: dict) -> None:
    """Declare `split` and `leaks` among the actions of `driqa data`."""
    split = actions.add_parser(
        "split",
        help="write a split as a file",
        description="Write a split as a file: by stable hash, without a subset, the set's own, or a published one.",
        epilog=_SPLIT_EXAMPLES,
        **style,
    )
    split.add_argument("name", metavar="NAME|CSV", help="a prepared set's name, or a CSV image,mos")
    rule = split.add_mutually_exclusive_group(required=True)
    rule.add_argument("--hash", type=int, metavar="K", help="split K (0, 1, ...) by stable hash, 80/20")
    rule.add_argument("--without", metavar="SUBSET", help="all of a subset is test, the others are learned from")
    rule.add_argument("--official", action="store_true", help="the split that comes with the set")
    rule.add_argument("--published", metavar="DIR", help="a folder of ARNIQA's .npy or of LIQE's text files")
    split.add_argument(
        "--of", default="", metavar="PART", help="with --hash, --without: within this part of the set's own split"
    )
    split.add_argument("--number", type=int, default=0, metavar="N", help="which of ARNIQA's splits (default: 0)")
    split.add_argument("-o", "--output", required=True, metavar="S.json", help="the file to write")
    split.set_defaults(run=_split)
    leaks = actions.add_parser(
        "leaks",
        help="find pictures that sets or splits share",
        description="Find pictures that two sets, or the splits of one, share, by perceptual hash.",
        epilog=_LEAKS_EXAMPLES,
        **style,
    )
    leaks.add_argument("name", metavar="A", help="a prepared set's name, a CSV image,mos, or a folder of photographs")
    leaks.add_argument("other", nargs="?", metavar="B", help="another; without it, the splits of A are compared")
    leaks.add_argument("--split-file", metavar="S.json", help="compare the parts of this split of A")
    leaks.add_argument("--threshold", type=float, metavar="T", help="how alike one scene is, at least (default: 0.65)")
    leaks.add_argument("-o", "--output", metavar="OUT", help="folder for the CSV and the picture of the pairs")
    leaks.set_defaults(run=_leaks)
    for action in (split, leaks):
        action.add_argument(
            "--data-dir", metavar="D", help="where the sets were prepared; for a CSV, where its images lie"
        )
        add_label_options(action)


def _split(args: argparse.Namespace) -> int:
    from driqa_jax.cli.evaluate import open_data
    from driqa_jax.data.split_file import hash_split, official_split, published_split, subset_split

    source, _ = open_data(args.name, args.data_dir, **labels(args))
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
    from driqa_jax.data import leaks, near_duplicates
    from driqa_jax.data.split_file import Split
    from driqa_jax.progress import Progress

    threshold = near_duplicates.THRESHOLD if args.threshold is None else args.threshold
    source = _opened(args, args.name)
    if args.split_file:
        source = Split.load(args.split_file).assigned(source)
    with Progress() as progress:
        if args.other:
            found = [leaks.leaks_between(source, _opened(args, args.other), threshold, progress)]
        else:
            found = leaks.leaks_within(source, threshold, progress)
    for each in found:
        _say(each, leaks.REPEAT, threshold)
        if args.output:
            _save(each, args.output)
    return 1 if any(len(each.i) for each in found) else 0


def _opened(args: argparse.Namespace, name: str):
    from driqa_jax.cli.evaluate import open_data
    from driqa_jax.data.open import open_source

    if os.path.isdir(name) and not any(file.lower().endswith(".csv") for file in os.listdir(name)):
        return open_source("photos", name)
    return open_data(name, args.data_dir, **labels(args))[0]


def _say(found, repeat: float, threshold: float) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "pictures", "n", "with a neighbour", "%", "repeated", "%", title=f"{found.left.name} in {found.right.name}"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    subsets = [str(name) for name in np.unique(found.left.column("subset")) if name]
    for subset in [None, *(subsets if len(subsets) > 1 else [])]:
        count, near, same = found.shared(subset)
        table.add_row(subset or "all", str(count), str(near), _percent(near, count), str(same), _percent(same, count))
    Console().print(table)
    print(f"neighbour: similarity of at least {threshold:g}; repeat: of at least {repeat:g}")
    gap = found.mos_gap()
    if gap is not None:
        print(f"repeats differ by {gap:.3f} in MOS (0 to 1) on average")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def _save(found, folder: str) -> None:
    import io

    from driqa_jax.data.leaks import contact_sheet
    from driqa_jax.io import make_folder, write_bytes, write_text

    make_folder(folder)
    stem = os.path.join(folder, f"{found.left.name}-{found.right.name}".replace(":", "_").replace("/", "_"))
    write_text(f"{stem}.csv", found.to_csv())
    said = f"{stem}.csv"
    if len(found.i):
        file = io.BytesIO()
        contact_sheet(found).save(file, "JPEG", quality=85)
        write_bytes(f"{stem}.jpg", file.getvalue())
        said += f" and {stem}.jpg"
    print(f"written: {said}")
