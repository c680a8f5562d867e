"""Fit the model to your own ratings, in about a minute.

examples:
  driqa fit ratings.csv -o mine.safetensors
  driqa fit ratings.csv --mos-range 1 5 -o mine.safetensors
  driqa score --model mine.safetensors photos/

ratings.csv holds image,mos as for `driqa evaluate`. Twenty ratings are enough to start; a hundred change more. The
encoders stay as they are, and a linear residual on what they see in your photos is added to the quality level. The file
is an ordinary weights file that every command takes. Its scores follow your scale: the worst end is 0, the best 100.

The command prints SRCC with your ratings before and after, with 95 % intervals. "After" is cross-validated: each photo
is scored by fits that saw neither it nor its group (column `group`). Calibration and interval come from the same
scores; the interval needs 30 ratings. If the SRCC does not rise, no file is written.

exit codes: 0 written (images that cannot be read are named and left out), 1 the fit is no better, nothing is written,
2 usage error
"""

import argparse
import pathlib

from driqa_jax.cli.options import Subparsers, add_command, add_label_options, add_model_option
from driqa_jax.cli.sources import open_data, report_failures
from driqa_jax.errors import user_errors
from driqa_jax.io import require_writable


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "fit", "fit the model to your own ratings", __doc__, run=run)
    add = parser.add_argument
    add("ratings", metavar="RATINGS.csv", help="CSV image,mos of photos that you rated")
    add("-o", "--output", required=True, metavar="F.safetensors", help="weights file to write")
    add_model_option(parser)
    add("--data-dir", metavar="D", help="folder of the images (default: the folder of the CSV)")
    add("--split", default="train", metavar="S", help="images to fit on, if the CSV has splits (default: train)")
    about = "keep here what the model reads from each photo, so that the next fit reads only new ones"
    add("--features", metavar="DIR", help=f"{about} (default: nowhere)")
    add("--seed", type=int, default=0, help="seed of the cross-validation and the bootstrap (default: 0)")
    add_label_options(parser)


def run(args: argparse.Namespace) -> int:
    """Fit and write; returns 0, or 1 if the fit is no better than the model."""
    output = require_writable(args.output, (".safetensors",))
    source, _ = open_data(args, args.ratings)
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.data.splits import select
    from driqa_jax.progress import Progress
    from driqa_jax.train.own_ratings import fit

    enable_compile_cache()
    with user_errors():
        part = select(source, args.split)
    about = {"data": pathlib.Path(args.ratings).name, "mos_range": args.mos_range or [0.0, 1.0]}
    with Progress() as progress:
        fitted, failed, sha256 = fit(args.model, part, output, about, args.seed, progress, args.features)
    report_failures(failed.items())
    gain = fitted.gain
    print(f"{gain.before.n} ratings, SRCC before {_shown(gain.before)}, after {_shown(gain.after)}")
    print(f"gain {_shown(gain.difference, '+.3f')} on photos that the fit did not see")
    if sha256 is None:
        print(f"{args.output}: not written, because {fitted.refusal}. Rate more photos, or keep {args.model}")
        return 1
    print(f"mean absolute error {100 * fitted.values['mae_calibrated']:.1f} points")
    for name in ("calibration", "interval"):
        if not fitted.metadata[name]:
            print(f"the file has no {name}: too few ratings")
    print(f"sha256 {sha256}")
    return 0


def _shown(estimate, form: str = ".3f") -> str:
    if estimate.value is None:
        return "undefined"
    low, high = estimate.interval or (None, None)
    return f"{estimate.value:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")
