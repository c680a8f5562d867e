"""`driqa export`: a training run to one calibrated weights file; any model to one StableHLO program."""

from __future__ import annotations

import argparse

from driqa_jax.errors import UserError
from driqa_jax.io import require_writable

_EXAMPLES = """\
examples:
  driqa export --model runs/mine --licence "my own" -o mine.safetensors
  driqa export --model mine.safetensors -o mine.stablehlo
  driqa score --model mine.safetensors photos/

F.safetensors: the weights of a training, float16; a calibration, which makes a score of 70 mean a MOS of .70 of the
training scale; and an interval, which makes a score's uncertainty. Both are fitted on the run's own validation fold:
from 10 pictures on, and from 30 on; with fewer the file goes without, which standard error says.

F.stablehlo: the whole program, weights and calibration inside, by jax.export, for CPU, CUDA and TPU, any batch;
the model is a bundled one, a .safetensors file, or a workdir (as it is: not calibrated). To use it:
driqa_jax.inference.exports.stablehlo.load, or JAX and numpy alone, see docs/EXPORT.md.

exit codes: 0 written, 2 usage error
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "export",
        help="a training run to one weights file; any model to StableHLO",
        description="Write a training run as one calibrated weights file (safetensors, float16), "
        "or any model as one program (StableHLO).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|FILE|WORKDIR",
        help="for .safetensors the workdir of a training; for .stablehlo also a bundled model or a .safetensors file",
    )
    parser.add_argument("-o", "--output", required=True, metavar="F.safetensors|F.stablehlo", help="the file to write")
    parser.add_argument("--licence", metavar="TEXT", help="of a training's weights (default: not stated)")
    parser.add_argument(
        "--data-path",
        metavar="P",
        help="for .safetensors: where the run's data lie now (default: where they lay)",
    )
    parser.add_argument(
        "--average",
        metavar="WORKDIR",
        help="for .safetensors: write the mean of the parameters of --model and this training, as of the one that it "
        "started from",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; returns 0."""
    output = require_writable(args.output, (".safetensors", ".stablehlo"))
    for option in ("data_path", "average"):
        if output.suffix == ".stablehlo" and getattr(args, option):
            name = option.replace("_", "-")
            raise UserError(f"--{name} goes with .safetensors: a .stablehlo file is made of one model, without data")
    # Only now what takes a second to start: a wrong name is told at once.
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.progress import Progress
    from driqa_jax.train.export import export, export_program

    enable_compile_cache()
    if output.suffix == ".stablehlo":
        found = export_program(args.model, output, args.licence)
    else:
        with Progress() as progress:
            licence = args.licence or "not stated"
            found = export(args.model, output, licence, args.data_path, progress, args.average, _say)
    for name, value in found.items():
        if value is not None:  # no correlation of one picture
            print(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
    return 0


def _say(text: str) -> None:
    import sys

    print(text, file=sys.stderr)
