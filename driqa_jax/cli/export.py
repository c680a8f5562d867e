"""`driqa export`: a training run to one calibrated weights file."""

from __future__ import annotations

import argparse

from driqa_jax.errors import UserError

_EXAMPLES = """\
example:
  driqa export --model runs/mine --licence "my own" -o mine.safetensors
  driqa score --model mine.safetensors photos/

The calibration, which makes a score of 70 mean a MOS of .70 of the training scale, is fitted on the run's own
validation fold.

exit codes: 0 written, 2 usage error
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "export",
        help="a training run to one weights file",
        description="Write a training run as one calibrated weights file (safetensors, float16).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, metavar="WORKDIR", help="the workdir of a training")
    parser.add_argument("-o", "--output", required=True, metavar="F.safetensors", help="the file to write")
    parser.add_argument("--licence", default="not stated", metavar="TEXT", help="of the weights, for the header")
    parser.add_argument("--data-path", metavar="P", help="where the run's data lie now (default: where they lay)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; returns 0."""
    import sys

    from driqa_jax.scoring.cache import enable_compile_cache
    from driqa_jax.scoring.export import export

    if not args.output.endswith(".safetensors"):
        raise UserError(f"{args.output}: the name of a weights file ends in .safetensors")

    def progress(done, count):
        if done % 100 == 0 or done == count:
            print(f"validation: {done} of {count}", file=sys.stderr)

    enable_compile_cache()
    found = export(args.model, args.output, args.licence, args.data_path, progress)
    for name, value in found.items():
        print(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
    return 0
