"""Explain the scores of images: files, folders (recursively), globs.

examples:
  driqa explain photo.jpg -o explained
  driqa explain holiday/ 'scans/*.png' -o explained --threshold .3

Writes to the folder: NAME.png for each image (the image, the quality map over it, and what stands out, how visible and
where); index.html, a gallery; explanations.jsonl, one line per image with all types of degradation. A model with a
restoration network, such as lite-0.5, adds the restored image, with a before/after divider in the gallery. Images above
1.5 megapixels are reduced before they are restored and shown. Score, map and degradations use the whole image.

exit codes: 0 all explained, 1 some or all images failed, 2 nothing to explain, 130 Ctrl-C, 143 SIGTERM (page and lines
then contain the images so far)
"""

import argparse
import os
import sys
import time

from driqa_jax.cli.options import Subparsers, add_command, add_model_options, add_paths, loading, share
from driqa_jax.cli.output import say
from driqa_jax.errors import UserError


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "explain", "explain the scores of images", __doc__, run=run)
    add_paths(parser)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="output folder")
    about = "show what has at least this probability (default: 0.5)"
    parser.add_argument("--threshold", type=share, default=0.5, metavar="P", help=about)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Explain; returns 0, or 1 if an image failed."""
    from driqa_jax.reports.inputs import list_pictures

    # List all inputs before writing, so that no output becomes an input or replaces one.
    paths = list(list_pictures(args.paths))
    output = os.path.realpath(args.output)
    for path in paths:
        if os.path.commonpath([os.path.realpath(path), output]) == output:
            raise UserError(f"{args.output}: contains the input {path}; write to another folder")
    from driqa_jax.errors import UnreadableImage, reason
    from driqa_jax.inference.findings import NOTHING
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load
    from driqa_jax.reports.gallery import Gallery

    scorer = load(args.model, **loading(args))
    began, failed = time.monotonic(), 0
    with Gallery(args.output, describe(scorer), args.threshold) as gallery:
        for path in paths:
            try:
                explanation = scorer.explain(path)
                gallery.add(explanation)
            except Exception as error:
                if isinstance(error, UserError) and not isinstance(error, UnreadableImage):
                    raise  # the folder cannot be written
                failed += 1
                gallery.fail(path, reason(error, path))
                say(f"{path}: {reason(error, path)}")
                continue
            found = [f"{fault.words} ({fault.details})" for fault in explanation.faults(args.threshold)]
            print(f"{explanation.score:6.2f}  {path}  {', '.join(found) or NOTHING.lower()}", flush=True)
    seconds = time.monotonic() - began
    page = os.path.join(args.output, "index.html")
    print(f"{len(paths) - failed} explained, {failed} failed, {seconds:.1f} s: {page}", file=sys.stderr)
    return 1 if failed else 0
