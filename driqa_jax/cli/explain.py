"""`driqa explain`: why pictures have their scores, as pictures, as a page and as JSON."""

from __future__ import annotations

import argparse
import os
import sys
import time

from driqa_jax.cli.options import add_model_options, loading, share
from driqa_jax.errors import UserError

_EXAMPLES = """\
examples:
  driqa explain photo.jpg -o explained
  driqa explain holiday/ 'scans/*.png' -o explained --threshold .3

In the folder: NAME.png for each photo (the photo, the quality map over it, the picture restored by the model, the
degradations that stand out with probability and severity); index.html, to look through them with a divider between
before and after; explanations.jsonl, a line a photo. A photo of more than 1.5 megapixels is reduced before it is
restored and shown; score, map and degradations are of the whole photo.

exit codes: 0 all explained, 1 some or all of the pictures failed, 2 nothing was there to explain, 130 Ctrl-C, 143
SIGTERM (page and lines then hold the photos so far)
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "explain",
        help="show why pictures have their scores",
        description="Explain the scores of pictures: files, folders (with all below them), globs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a glob")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write to")
    parser.add_argument(
        "--threshold",
        type=share,
        default=0.5,
        metavar="P",
        help="name degradations from this probability on (default: 0.5)",
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain; returns 0, or 1 where a picture failed."""
    from driqa_jax.reports.inputs import list_pictures

    # Read to the end before anything is written: a result must not become an input, nor replace one.
    paths = list(list_pictures(args.paths))
    inside = next((path for path in paths if _is_inside(path, args.output)), None)
    if inside is not None:
        raise UserError(f"{args.output}: holds {inside}, which is to be explained; write to another folder")
    from driqa_jax.errors import UnreadableImage, reason
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load
    from driqa_jax.reports.gallery import Gallery

    scorer = load(args.model, **loading(args))
    began, failed = time.monotonic(), 0
    with Gallery(args.output, describe(scorer), args.threshold) as gallery:
        for path in paths:
            try:
                found = scorer.explain(path)
                gallery.add(found)
            except Exception as error:
                if isinstance(error, UserError) and not isinstance(error, UnreadableImage):
                    raise  # the folder cannot be written
                failed += 1
                gallery.fail(path, reason(error, path))
                print(f"{path}: {reason(error, path)}".encode(errors="replace").decode(), file=sys.stderr)
                continue
            named = [f"{one.label} {one.probability:.2f}" for one in found.named(args.threshold)]
            print(f"{found.score:6.2f}  {path}  {', '.join(named) or 'none stands out'}", flush=True)
    took = time.monotonic() - began
    page = os.path.join(args.output, "index.html")
    print(f"{len(paths) - failed} explained, {failed} failed, {took:.1f} s: {page}", file=sys.stderr)
    return 1 if failed else 0


def _is_inside(path: str, folder: str) -> bool:
    folder = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(path), folder]) == folder
