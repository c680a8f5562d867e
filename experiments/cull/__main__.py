"""`python -m experiments.cull PHOTOS -o DIR`: the share of bursts whose best shot is the least degraded one."""

import argparse
import csv
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from driqa_jax.cli import main as cli
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import estimate
from driqa_jax.io import write_json
from driqa_jax.reports.cull_files import CHOICES_CSV
from driqa_jax.reports.inputs import list_pictures
from experiments.cull import bursts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; a repeated run resumes the culling. Returns 0, or 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="python -m experiments.cull", description=__doc__, allow_abbrev=False)
    parser.add_argument("photos", nargs="+", metavar="PHOTOS", help="files or folders of photos of at least 64 pixels")
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path, metavar="DIR", help="output folder")
    parser.add_argument("--bursts", type=int, default=100, help="bursts of three shots (default: 100)")
    parser.add_argument("--others", type=int, default=30, help="unrelated photos (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="lite", help="as for driqa (default: lite)")
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
    with open(culled / CHOICES_CSV, newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    result = summarize(shots, rows)
    write_json(args.output / "summary.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")
    return 0


def summarize(shots: Sequence[bursts.Shot], rows: dict[str, dict[str, str]]) -> dict[str, str]:
    """The shares with 95 % intervals from resampled scenes.

    Args:
      shots: of the folder.
      rows: of `choices.csv`, by path.
    """
    scenes: dict[int, list[bursts.Shot]] = {}
    for shot in shots:
        scenes.setdefault(shot.scene, []).append(shot)
    alone = scenes.pop(-1, [])
    sizes: dict[str, int] = {}
    for row in rows.values():
        sizes[row["group"]] = sizes.get(row["group"], 0) + 1
    whole, best, highest, rejected = [], [], [], []
    pairs: dict[str, list[bool]] = {}
    for scene in scenes.values():
        scene = sorted(scene, key=lambda shot: shot.severity)
        found = [rows[shot.path] for shot in scene]
        group = found[0]["group"]
        whole.append(bool(group) and all(row["group"] == group for row in found) and sizes[group] == len(scene))
        best.append(bool(group) and found[0]["rank"] == "1")
        highest.append(float(found[0]["score"]) > max(float(row["score"]) for row in found[1:]))
        rejected.append(found[0]["choice"] == "reject")
        mixed = scene[0].kind == bursts.UNTOUCHED
        for shot, row in zip(scene[1:], found[1:], strict=True):
            name = f"{shot.kind} {shot.severity:g} against {scene[0].severity:g}"
            pairs.setdefault(name if mixed else f"{name} of it", []).append(_below(row, found[0]))
    single = [not rows[shot.path]["group"] for shot in alone]
    return {
        "bursts": str(len(scenes)),
        "burst found as one group, without other photos": _share(whole),
        "unrelated photo left alone": _share(single),
        "best shot is the least degraded": _share(best),
        "the same by the score alone": _share(highest),
        "least degraded shot proposed as a reject": _share(rejected),
        **{f"more degraded shot is below: {name}": _share(pairs[name]) for name in sorted(pairs)},
    }


def _below(row: dict[str, str], other: dict[str, str]) -> bool:
    """Whether a shot ranks below another of its group; by the score if their groups differ."""
    if row["group"] and row["group"] == other["group"]:
        return int(row["rank"]) > int(other["rank"])
    return float(row["score"]) < float(other["score"])


def _share(values: Sequence[bool]) -> str:
    found = estimate(np.array(values, np.float64))
    if found.value is None:
        return f"{sum(values)} of {len(values)}"
    interval = "" if found.interval is None else f" [{found.interval[0]:.3f}, {found.interval[1]:.3f}]"
    return f"{found.value:.3f}{interval}, n = {len(values)}"


if __name__ == "__main__":
    sys.exit(main())
