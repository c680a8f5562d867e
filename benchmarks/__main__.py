"""`python -m benchmarks NAME [options]`: repeatable measurements, one file each in this folder."""

import importlib
import sys

from driqa_jax.cli.main import keep_memory
from driqa_jax.errors import UserError

# Each module has its own parser.
BENCHMARKS = {
    "degradations": "images per second of each degradation and of a recipe, and its share of a pretraining step",
    "onnx": "agreement of an ONNX file with the scorer, and its milliseconds",
    "score": "images per second, start-up and peak memory of driqa score, compared with other packages",
    "stability": "how much a score changes where people see nothing, and whether it orders what they do see",
    "step": "images per second of the training step, for both backward passes of the depthwise convolution",
    "train": "compilation, step, loop, data, checkpoints and memory of a training run",
    "transfer": "agreement with people on image sets that nobody trained on, compared with a reference model",
    "where": "whether maps, findings and scores show faults whose kind and place are known",
    "topology": "memory, FLOPs and collectives of the training step on a TPU topology, compiled on a CPU",
}


def main(argv: list[str]) -> int:
    """Run one benchmark with the remaining options; without a name, list the benchmarks. Returns the exit code."""
    name, *options = argv or [""]
    if name in ("", "-h", "--help"):
        print("usage: python -m benchmarks NAME [options]; for example python -m benchmarks step --help\n")
        for each, line in BENCHMARKS.items():
            print(f"  {each:14}{line}")
        return 0
    try:
        if name not in BENCHMARKS:
            raise UserError(f"unknown benchmark {name!r}; it must be one of {', '.join(BENCHMARKS)}")
        return importlib.import_module(f"benchmarks.{name}").main(options)
    except UserError as error:
        print(f"benchmarks {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    keep_memory(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
