"""Options that say what a score means (percentiles, bands) and that write it into sidecars."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from driqa_jax.errors import UserError

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer
    from driqa_jax.reports.meaning import Bands, Meaning
    from driqa_jax.reports.sidecars import Sidecars

_BASES, NAMINGS = ("score", "percentile", "folder"), ("lightroom", "darktable")


def add_meaning_options(parser: argparse.ArgumentParser, bases: Sequence[str] = _BASES) -> None:
    """`--percentile`, `--reference`, `--bands`, `--bands-by`: the arguments of `meaning_of`."""
    folder = ", or percentiles among the images of this run, which needs -o" if "folder" in bases else ""
    add = parser.add_argument_group("what a score means").add_argument
    about = "add the share of reference photos with a lower score, in percent; `driqa info --model M` names them"
    add("--percentile", action="store_true", help=about)
    about = "reference photos of --percentile: a file of `driqa score -o` with this model (default: the model's own)"
    add("--reference", metavar="SCORES", help=about)
    about = "add a band: stars (1 to 5), words (bad to excellent), or NAME=FROM,... such as reject=0,keep=45,best=70"
    add("--bands", metavar="BANDS", help=about)
    about = f"what the numbers of a band are: scores, percentiles among the reference photos{folder} (default: score)"
    add("--bands-by", choices=bases, default="score", help=about)


def add_sidecar_options(parser: argparse.ArgumentParser) -> None:
    """`--xmp`, `--overwrite`, `--dry-run`, `--no-findings`, `--decoded`: the arguments of `sidecars_for`."""
    add = parser.add_argument_group("sidecars and raw photos").add_argument
    about = "write ratings (--bands, default: stars) and named degradations as keywords into XMP sidecars: photo.xmp "
    about += "(lightroom) or photo.jpg.xmp (darktable, digiKam); other fields stay as they are"
    add("--xmp", choices=NAMINGS, help=about)
    for option, about in (
        ("--overwrite", "also lower a person's rating; without it such a rating is kept"),
        ("--dry-run", "say which sidecars --xmp would write, and write none"),
        ("--no-findings", "write no keywords, which halves the time of --xmp"),
        ("--decoded", "add a column: how a raw photo was read, preview or developed"),
    ):
        add(option, action="store_true", help=about)


def check_meaning(args: argparse.Namespace, default: str | None = None) -> Bands | None:
    """The bands to use (`default`: without --bands), before the model is loaded. Raises UserError."""
    if args.reference and not _needs_reference(args):
        raise UserError("--reference needs --percentile or --bands-by percentile")
    chosen = args.bands or default
    if not chosen:
        if args.bands_by != "score":
            raise UserError(f"--bands-by needs --bands{' or --xmp' if hasattr(args, 'xmp') else ''}")
        return None
    from driqa_jax.reports.meaning import parse_bands

    return parse_bands(chosen, args.bands_by)


def check_options(args: argparse.Namespace) -> Bands | None:
    """`check_meaning` for a command with the options of `add_sidecar_options` too. Raises UserError."""
    for option in ("overwrite", "dry_run", "no_findings"):
        if getattr(args, option) and not args.xmp:
            raise UserError(f"--{option.replace('_', '-')} needs --xmp")
    if args.bands_by == "folder" and not args.output:
        raise UserError("--bands-by folder needs -o, since bands are known when all images are scored")
    bands = check_meaning(args, "stars" if args.xmp else None)
    if bands and args.xmp:
        bands.require_ratings()
    return bands


def meaning_of(args: argparse.Namespace, bands: Bands | None, scorer: Scorer) -> Meaning:
    """The columns that the options ask for. Raises UserError if the reference is missing or of another model."""
    from driqa_jax.reports.meaning import Meaning
    from driqa_jax.reports.reference import reference_of

    reference = reference_of(scorer, args.reference) if _needs_reference(args) else None
    show_band = bool(args.bands) or args.bands_by == "folder"
    more = (getattr(args, name, False) for name in ("decoded", "reasons"))  # `driqa serve` lacks them
    return Meaning(reference, bands, args.percentile, show_band, *more)


def sidecars_for(args: argparse.Namespace, meaning: Meaning, scorer: Scorer, say: Callable[[str], None]) -> Sidecars:
    """What writes the sidecars of `--xmp`."""
    from driqa_jax.reports.sidecars import Sidecars

    options = {"overwrite": args.overwrite, "dry_run": args.dry_run}
    return Sidecars(args.xmp, meaning, scorer, say, findings=not args.no_findings, **options)


def _needs_reference(args: argparse.Namespace) -> bool:
    return args.percentile or args.bands_by == "percentile"
