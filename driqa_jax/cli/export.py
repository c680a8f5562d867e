"""Write a training run as one calibrated weights file, or a model as one StableHLO or ONNX program.

examples:
  driqa export --model runs/mine --licence "my own" -o mine.safetensors
  driqa export --model mine.safetensors -o mine.stablehlo
  driqa export --model mine.safetensors -o mine.onnx
  driqa score --model mine.safetensors photos/

F.safetensors contains the weights of a training in float16, a calibration (a score of 70 means a MOS of 0.70 on the
training scale) and a conformal interval (the uncertainty of a score). Both are fitted on the run's validation fold. The
calibration needs 10 images, the interval 30; with fewer the file omits it, and standard error says so.

F.stablehlo contains the whole program with weights and calibration, from jax.export, for CPU, CUDA and TPU and any
batch size. The model is a bundled model, a .safetensors file or a workdir (not calibrated). Load the program with
driqa_jax.inference.exports.stablehlo.load, or with JAX and numpy alone; see docs/EXPORT.md.

F.onnx contains the same for ONNX Runtime in any language, and resizes and cuts the image too, so its input is one image
of any size. It needs the extra onnx and a model of the form "deduction". With --input views its inputs are those of the
StableHLO program.

exit codes: 0 written, 2 usage error
"""

import argparse
import functools
import importlib.util
import sys

from driqa_jax.cli.options import Subparsers, add_command
from driqa_jax.errors import UserError
from driqa_jax.io import require_writable


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "write a weights file, or a StableHLO or ONNX program"
    parser = add_command(subparsers, "export", summary, __doc__, run=run)
    add = parser.add_argument
    about = "training workdir; for .stablehlo and .onnx also a bundled model or a .safetensors file"
    add("--model", required=True, metavar="NAME|FILE|WORKDIR", help=about)
    add("-o", "--output", required=True, metavar="F.safetensors|F.stablehlo|F.onnx", help="output file")
    add("--licence", "--license", metavar="TEXT", help="licence of a training's weights (default: not stated)")
    about = "for .onnx: what the file reads, one image or batches of views (default: image)"
    add("--input", choices=("image", "views"), help=about)
    about = "for .safetensors: current path of the run's data (default: the recorded path)"
    add("--data-path", metavar="P", help=about)
    about = "for .safetensors: write the mean of the parameters of --model and of this training, for example the one"
    add("--average", metavar="WORKDIR", help=f"{about} it started from")


def run(args: argparse.Namespace) -> int:
    """Export; returns 0."""
    output = require_writable(args.output, (".safetensors", ".stablehlo", ".onnx"))
    is_program = output.suffix.lower() != ".safetensors"
    for name, value in (("data-path", args.data_path), ("average", args.average)):
        if is_program and value:
            raise UserError(f"--{name} goes with .safetensors: a program is written from one model without data")
    if output.suffix.lower() != ".onnx" and args.input:
        raise UserError("--input goes with .onnx: other files have one kind of input")
    if output.suffix.lower() == ".onnx" and importlib.util.find_spec("onnx") is None:
        raise UserError(f"{output}: needs onnx, which is not installed: pip install 'driqa_jax[onnx]'")
    # These imports take a second; a wrong option fails before them.
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.progress import Progress
    from driqa_jax.train.export import export, export_onnx, export_program

    enable_compile_cache()
    if output.suffix.lower() == ".onnx":
        results = export_onnx(args.model, output, args.licence, args.input or "image")
    elif is_program:
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
