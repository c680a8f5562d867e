"""`python -m experiments.cull PHOTOS -o DIR`: the share of bursts whose best shot is the least degraded one."""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Sequence

from driqa_jax.cli import main as cli
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.errors import UserError
from driqa_jax.io import write_json
from driqa_jax.reports import cull_files
from driqa_jax.reports.inputs import list_pictures
from driqa_jax.reports.score_file import meta_path
from experiments.cull import bursts
from experiments.cull.summary import summarize, to_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write `summary.json`; a repeated run resumes it. Returns 0, or 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="python -m experiments.cull", description=__doc__, allow_abbrev=False)
    parser.add_argument("photos", nargs="+", metavar="PHOTOS", help="files or folders of photos of at least 64 pixels")
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path, metavar="DIR", help="output folder")
    parser.add_argument("--bursts", type=int, default=100, help="bursts of three shots (default: 100)")
    parser.add_argument("--others", type=int, default=30, help="unrelated photos (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="lite-0.5", help="as for driqa (default: lite-0.5)")
    args = parser.parse_args(argv)
    try:
        enable_compile_cache()
        photos = list(list_pictures(args.photos))
        shots = bursts.make(photos, args.output, args.bursts, args.others, args.seed)
    except UserError as error:
        print(f"experiments.cull: {error}", file=sys.stderr)
        return 2
    culled = args.output / "culled"
    code = cli.main(["cull", str(args.output / "photos"), "-o", str(culled), "--model", args.model, "--resume"])
    if code:
        return code
    with open(culled / cull_files.CHOICES_CSV, newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    made = {
        key: value
        for key, value in json.loads(meta_path(culled / cull_files.SCORES).read_text()).items()
        if key in ("model", "sha256", "effort")
    }
    shares = summarize(shots, rows)
    write_json(args.output / "summary.json", {**made, "photos": len(shots), "seed": args.seed, "shares": shares})
    print(to_table(shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
