"""Group similar shots, rank them, and propose which to keep and which to reject.

examples:
  driqa cull holiday/ -o culled
  driqa cull holiday/ -o culled --keep 2
  driqa cull holiday/ -o culled --resume        the same command resumes an interrupted run
  driqa cull holiday/ -o culled --resume --xmp darktable --dry-run

Shots of one scene form a group: shots of one camera within 30 seconds if their contents are similar, others if they are
nearly the same. The order within a group follows the score, with deductions for exposure, changed contrast, clipped
pixels and compression. No photo is deleted, moved or changed. With --xmp, rejects get the rating -1 in their sidecars.

Writes to the folder: choices.csv and choices.jsonl, one row per photo (path, group, rank, score, choice, reasons,
error); index.html, the groups side by side, to accept or change the choice and export it; scores.jsonl and
findings.jsonl, from which --resume continues. A choice is keep, reject, or empty: open.

exit codes: 0 all read, 1 some photos or sidecars failed, 2 nothing to cull, 130 Ctrl-C, 143 SIGTERM
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys
from typing import TYPE_CHECKING

from driqa_jax.cli.meaning import NAMINGS
from driqa_jax.cli.options import Subparsers, add_command, add_model_options, add_paths, loading, points, positive
from driqa_jax.cli.output import say
from driqa_jax.errors import UserError
from driqa_jax.progress import Progress

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "cull", "propose which of similar shots to keep", __doc__, run=run)
    add_paths(parser)
    add = parser.add_argument
    add("-o", "--output", required=True, metavar="DIR", help="output folder")
    add("--keep", type=positive, default=1, metavar="N", help="photos of each group to keep (default: 1)")
    about = "reject a photo at least this many points below the best of its group (default: 15)"
    add("--reject-margin", type=points, default=15.0, metavar="P", help=about)
    about = "reject a photo with a lower score (default: 20)"
    add("--reject-below", type=points, default=20.0, metavar="P", help=about)
    add("--resume", action="store_true", help="keep the scores of an interrupted run in -o")
    about = "rate rejects -1 in XMP sidecars: photo.xmp (lightroom) or photo.jpg.xmp (darktable, digiKam)"
    add("--xmp", choices=NAMINGS, help=about)
    about = "also reject what a person has rated; without it such a rating is kept"
    add("--overwrite", action="store_true", help=about)
    add("--dry-run", action="store_true", help="say which sidecars --xmp would write, and write none")
    # The order within a group was fitted to this model.
    add_model_options(parser, default="lite-0.5")


def run(args: argparse.Namespace) -> int:
    """Cull; returns 0, or 1 if a photo or a sidecar failed."""
    from driqa_jax.reports.inputs import list_pictures, without_pairs

    if not args.xmp and (args.overwrite or args.dry_run):
        raise UserError("--overwrite and --dry-run need --xmp")

    # Sorted, so that the rows and the groups do not depend on the order of the arguments.
    paths = sorted(set(list_pictures(args.paths)))
    paths = without_pairs(paths, paths)  # also of files given by name: a pair has the sidecars of one photo
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load
    from driqa_jax.io import make_folder
    from driqa_jax.reports import cull_files, culling
    from driqa_jax.reports.cull_page import write_cull_page

    folder = make_folder(args.output)
    scorer = load(args.model, **loading(args))
    provenance = describe(scorer)
    rule = culling.Rule(args.keep, args.reject_margin, args.reject_below)
    with Progress() as progress:
        tell = _tell(progress, "scored", len(paths))
        cull_files.write_scores(folder, scorer, paths, provenance, args.resume, tell)
        photos, failed = cull_files.read_scores(folder)
        groups = culling.grouped(photos)
        several = sorted((photo for group in groups if len(group) > 1 for photo in group), key=lambda photo: photo.path)
        tell = _tell(progress, "examined", len(several))
        cull_files.write_findings(folder, scorer, several, provenance, args.resume, tell)
        findings = cull_files.read_findings(folder)
        rows = culling.choose_all(groups, findings, rule)
        cull_files.write_choices(folder, [*(row for group in rows for row in group), *failed])
        page = folder / cull_files.PAGE
        write_cull_page(page, rows, failed, provenance, scorer.max_pixels, progress)
    _summarize(page, rows, failed)
    lost = _reject(args, scorer, rows) if args.xmp else 0
    return 1 if failed or lost or len(findings) < len(several) else 0


def _reject(args: argparse.Namespace, scorer: Scorer, groups) -> int:
    """Rates the rejects in their sidecars; returns how many failed."""
    from driqa_jax.reports.sidecars import Sidecars

    sidecars = Sidecars(args.xmp, None, scorer, say, overwrite=args.overwrite, dry_run=args.dry_run)
    for row in (row for group in groups for row in group if row.choice == "reject"):
        sidecars.rate(row.path, -1)
    say(sidecars.summary())
    return sidecars.failed


def _tell(progress, task, total):
    """Shows how many rows of `total` there are, and prints those that failed."""

    def tell(result, rows: int) -> None:
        progress(task, rows, total)
        if result.error is not None:
            say(f"{result.path}: {result.error}")

    return tell


def _summarize(page: pathlib.Path, groups, failed) -> None:
    choices = collections.Counter(row.choice for group in groups for row in group)
    several = sum(len(group) > 1 for group in groups)
    print(
        f"{several} groups, {len(groups) - several} single photos, {len(failed)} failed: {choices['keep']} keep, "
        f"{choices['reject']} reject, {choices['']} open: {page}",
        file=sys.stderr,
    )
