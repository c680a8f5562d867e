"""Write a training run as one calibrated weights file, or any model as one StableHLO program.

examples:
  driqa export --model runs/mine --licence "my own" -o mine.safetensors
  driqa export --model mine.safetensors -o mine.stablehlo
  driqa score --model mine.safetensors photos/

F.safetensors contains the weights of a training in float16, a calibration (a score of 70 means a MOS of 0.70 on the
training scale) and a conformal interval (the uncertainty of a score). Both are fitted on the run's validation fold. The
calibration needs 10 images, the interval 30; with fewer the file omits it, and standard error says so.

F.stablehlo contains the whole program with weights and calibration, from jax.export, for CPU, CUDA and TPU and any
batch size. The model is a bundled model, a .safetensors file or a workdir (not calibrated). Load the program with
driqa_jax.inference.exports.stablehlo.load, or with JAX and numpy alone; see docs/EXPORT.md.

exit codes: 0 written, 2 usage error
"""

import argparse
import functools
import sys

from driqa_jax.cli.options import Subparsers, add_command
from driqa_jax.errors import UserError
from driqa_jax.io import require_writable


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "write a weights file or a StableHLO program"
    parser = add_command(subparsers, "export", summary, __doc__, run=run)
    add = parser.add_argument
    about = "training workdir; for .stablehlo also a bundled model or a .safetensors file"
    add("--model", required=True, metavar="NAME|FILE|WORKDIR", help=about)
    add("-o", "--output", required=True, metavar="F.safetensors|F.stablehlo", help="output file")
    add("--licence", "--license", metavar="TEXT", help="licence of a training's weights (default: not stated)")
    about = "for .safetensors: current path of the run's data (default: the recorded path)"
    add("--data-path", metavar="P", help=about)
    about = "for .safetensors: write the mean of the parameters of --model and of this training, for example the one"
    add("--average", metavar="WORKDIR", help=f"{about} it started from")


def run(args: argparse.Namespace) -> int:
    """Export; returns 0."""
    output = require_writable(args.output, (".safetensors", ".stablehlo"))
    for name, value in (("data-path", args.data_path), ("average", args.average)):
        if output.suffix == ".stablehlo" and value:
            reason = "a .stablehlo file is written from one model without data"
            raise UserError(f"--{name} goes with .safetensors: {reason}")
    # These imports take a second; a wrong option fails before them.
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.progress import Progress
    from driqa_jax.train.export import export, export_program

    enable_compile_cache()
    if output.suffix == ".stablehlo":
        results = export_program(args.model, output, args.licence)
    else:
        licence = args.licence or "not stated"
        with Progress() as progress:
            warn = functools.partial(print, file=sys.stderr)
            results = export(args.model, output, licence, args.data_path, progress, args.average, warn)
    for name, value in results.items():
        if value is not None:  # a correlation is undefined for one image
            print(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
    return 0
