"""Learning curves of `driqa fit` against a CSV: N ratings are drawn, and the other images show the gain.

    python -m experiments.own_ratings ratings.csv --mos-range 0 100 --model mine.safetensors -o curves.json

`tools.write_own_ratings curves.json` writes the result into docs/FINETUNE.md.
"""

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence

from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.cli.options import add_label_options, add_model_option, positive
from driqa_jax.cli.sources import open_data
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.errors import UserError
from driqa_jax.io import require_writable, write_json
from driqa_jax.progress import Progress
from driqa_jax.train.own_ratings import OwnRatings
from experiments.own_ratings.curves import cross_validated, curves


def main(argv: Sequence[str] | None = None) -> int:
    """Write and print the curves; returns the exit code."""
    about, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(prog="python -m experiments.own_ratings", description=about)
    parser.add_argument("ratings", metavar="RATINGS.csv")
    parser.add_argument("-o", "--output", required=True, metavar="F.json")
    parser.add_argument("--data-dir", metavar="D", help="folder of the images (default: the folder of the CSV)")
    parser.add_argument("--features", metavar="DIR", help="as for driqa fit")
    parser.add_argument("--draws", type=positive, default=20, help="of each number of ratings (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    add_model_option(parser)
    add_label_options(parser)
    args = parser.parse_args(argv)
    require_writable(args.output, (".json",))
    enable_compile_cache()
    source, _ = open_data(args, args.ratings)
    own = OwnRatings(args.model)
    with Progress() as progress:
        started = time.perf_counter()
        rated, failed = own.read(source, progress, args.features)
        read = time.perf_counter()
        gain = cross_validated(own, rated, args.seed)
        fitted = time.perf_counter()
        rows = curves(own, rated, draws=args.draws, seed=args.seed, progress=progress)
    values = {
        "ratings": pathlib.Path(args.ratings).name,
        "images": len(rated.mos),
        "failed": len(failed),
        "model": params_sha256(own.loaded.params),
        "draws": args.draws,
        "seed": args.seed,
        "seconds": {"read": read - started, "cross_validation": fitted - read},
        "cross_validated": {name: dataclasses.asdict(each) for name, each in vars(gain).items()},
        "curves": rows,
    }
    write_json(args.output, values)
    print(to_table(values))
    return 0


def to_table(values: dict) -> str:
    """The curves as a Markdown table: mean SRCC before, then the mean gain of each way (worst draw)."""
    counts = list(dict.fromkeys(row["ratings"] for row in values["curves"]))
    found = {(row["way"], row["ratings"]): row for row in values["curves"]}
    lines = ["| ratings | " + " | ".join(map(str, counts)) + " |", "|---|" + "---|" * len(counts)]
    names = list(dict.fromkeys(row["way"] for row in values["curves"]))
    before = [f"{found[names[0], count]['before']:.3f}" for count in counts]
    lines.append("| SRCC before | " + " | ".join(before) + " |")
    for name in names:
        cells = ["{gain:+.3f} ({worst:+.3f})".format(**found[name, count]) for count in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.own_ratings: {error}")
