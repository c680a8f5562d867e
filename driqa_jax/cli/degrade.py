"""Degrade photographs on the device, as pretraining does.

examples:
  driqa degrade list
  driqa degrade apply --name jpeg --severity 0.5 photo.png -o degraded.png
  driqa degrade sheet photo.png -o sheet.png
  driqa degrade corpus --config configs/corpus_example.py --config.data.path=photos -o corpus
"""

import argparse
import pathlib
import sys

from driqa_jax.cli.options import Subparsers, add_command, add_paths, positive
from driqa_jax.errors import UserError
from driqa_jax.progress import Progress


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "degrade", "degrade photographs, write corpora", __doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_command(actions, "list", "list the degradations, one name per line", _list.__doc__, run=_list)

    apply = add_command(actions, "apply", "apply one degradation to images", _apply.__doc__, run=_apply)
    add_paths(apply, "IN")
    apply.add_argument("--name", required=True, metavar="NAME", help="degradation")
    amount = apply.add_mutually_exclusive_group(required=True)
    amount.add_argument("--severity", type=float, metavar="S", help="from 0 (none) to 1")
    amount.add_argument("--level", type=int, metavar="L", help="KADID-10k level, 1 to 5")
    about = "lossless image file; for several images a folder"
    apply.add_argument("-o", "--output", required=True, metavar="OUT", help=about)
    apply.add_argument("--format", choices=("png", "webp"), help="format of files in a folder (default: png)")

    summary = "draw a contact sheet of degradations by severities"
    sheet = add_command(actions, "sheet", summary, _sheet.__doc__, run=_sheet)
    sheet.add_argument("photo", metavar="PHOTO", help="image file")
    sheet.add_argument("-o", "--output", required=True, metavar="S.png", help="output file")
    sheet.add_argument("--names", metavar="A,B,...", help="degradations, one per row (default: all)")
    about = "side of the center square (default: 192)"
    sheet.add_argument("--side", type=positive, default=192, metavar="PX", help=about)
    for parser in (apply, sheet):
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")

    summary = "write a corpus of degraded photographs"
    corpus = add_command(actions, "corpus", summary, _corpus.__doc__, run=_corpus, overrides=[])
    corpus.add_argument("--config", required=True, metavar="F.py", help="Python file with get_config()")
    corpus.add_argument("-o", "--output", required=True, metavar="DIR", help="output folder")


def _list(args: argparse.Namespace) -> int:
    """List the degradations, one name per line.

    columns: name; "ordered" if a higher severity always looks worse, or "unordered"; group; number in KADID-10k;
    severities of KADID-10k's levels 1 to 5. A dash means that a type has no such value.

    example:
      driqa degrade list | awk '$2 == "ordered" {print $1}'
    """
    from driqa_jax.degradations import DEGRADATIONS
    from driqa_jax.degradations.recipes import KADID

    rows = [
        (
            entry.name,
            "ordered" if entry.ordered else "unordered",
            entry.group,
            f"{KADID.index(entry.name) + 1:02d}" if entry.name in KADID else "-",
            ",".join(f"{level:g}" for level in entry.kadid_levels or ()) or "-",
        )
        for entry in DEGRADATIONS
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _apply(args: argparse.Namespace) -> int:
    """Apply one degradation to images.

    examples:
      driqa degrade apply --name jpeg --severity 0.5 photo.png -o degraded.png
      driqa degrade apply --name lens_blur --level 3 photos/ -o blurred --format webp

    Images keep their size. `driqa degrade list` prints the names.

    exit codes: 0 all written, 1 some images failed, 2 usage error or none written, 130 Ctrl-C, 143 SIGTERM
    """
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.corpus import files
    from driqa_jax.reports.inputs import list_pictures

    severity = files.severity_of(args.name, args.severity, args.level)
    paths = list(list_pictures(args.paths))
    extension = f".{args.format}" if args.format else None
    targets = files.destinations(paths, args.output, extension)
    enable_compile_cache()
    failed = 0
    with Progress() as progress:
        results = files.degrade_files(args.name, severity, args.seed, paths, targets)
        for done, (path, error) in enumerate(results, 1):
            if error:
                failed += 1
                print(f"{path}: {error}", file=sys.stderr)
            progress("degrading", done, len(paths))
    if not failed:
        return 0
    return 1 if failed < len(paths) else 2


def _sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet of degradations by severities.

    example:
      driqa degrade sheet photo.png --names jpeg,lens_blur -o sheet.png
    """
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.corpus import files
    from driqa_jax.data.decode import decode
    from driqa_jax.data.pipeline import center_square
    from driqa_jax.degradations import NAMES

    names = [files.known(name.strip()).name for name in args.names.split(",")] if args.names else NAMES
    target = pathlib.Path(args.output)
    files.require_lossless(target)
    square = center_square(decode(args.photo), args.side)
    enable_compile_cache()
    try:
        grid = files.severity_grid(square, names, seed=args.seed)
    except ValueError as error:
        raise UserError(f"{args.photo}: {error}") from None
    files.save(files.contact_sheet(grid, names), target)
    return 0


def _corpus(args: argparse.Namespace) -> int:
    """Write a corpus of degraded photographs.

    example:
      driqa degrade corpus --config configs/corpus_example.py --config.data.path=photos -o corpus

    --config.KEY=VALUE sets any key of the configuration. Run the same command again to resume at the first missing
    file. A folder with another corpus is rejected.

    exit codes: 0 complete, 2 usage error, 130 Ctrl-C, 143 SIGTERM
    """
    from driqa_jax.cli.train import parse_overrides

    settings = parse_overrides(args.overrides)
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.corpus.make import make
    from driqa_jax.train.config import read

    config = read(args.config, settings)
    enable_compile_cache()
    with Progress() as progress:
        manifest = make(config, pathlib.Path(args.output), progress)
    count = sum(shard["records"] for shard in manifest["shards"].values())
    print(f"{args.output} contains {count} images in {len(manifest['shards'])} files")
    return 0
