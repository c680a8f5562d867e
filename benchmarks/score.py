"""Speed and memory of `driqa score` and of other no-reference packages, on the same photographs and cores.

    python -m benchmarks score --folder examples/photos --peers-python PEERS/bin/python

Each measurement is a separate process. The peers need a separate environment, because their pins contradict ours; on
Linux with Python 3.11:

    python -m venv PEERS
    PEERS/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    PEERS/bin/pip install torchvision==0.28.0 --no-deps
    PEERS/bin/pip install pyiqa==0.1.16 brisque==0.2.0 pypiqe==1.2 "numpy<2.4"

A peer that cannot run is reported with the reason. The photographs are crops from the folder, resized to 512x384
(`--photos` of them) and 4000x3000 (`--large`), JPEG quality 92, the same for all; slow peers get the first
`--peer-photos` of them.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmarks.options import result_file
from benchmarks.peers import CLASSICAL, DEEP
from driqa_jax.errors import UserError
from driqa_jax.inference.effort import EFFORTS
from driqa_jax.io import write_json
from driqa_jax.reports.inputs import list_pictures

SMALL, ONE_MEGAPIXEL, LARGE = (512, 384), (1152, 864), (4000, 3000)
STARTS = 3  # later starts; the result is their median
LIMIT = 3600  # seconds for one process


def make_photos(folder: str, into: pathlib.Path, count: int, size: tuple[int, int]) -> list[str]:
    """`count` JPEG files of `size` (width, height), each a different crop of a photograph of the folder."""
    originals, draw, made = list(list_pictures([folder])), np.random.default_rng(0), []
    into.mkdir()
    for i in range(count):
        with Image.open(originals[i % len(originals)]) as file:
            photo = file.convert("RGB")
        share = draw.uniform(0.7, 1.0)
        unit = min(photo.width / size[0], photo.height / size[1]) * share
        width, height = unit * size[0], unit * size[1]
        left, top = draw.uniform(0, photo.width - width), draw.uniform(0, photo.height - height)
        made.append(str(into / f"{i:03}.jpg"))
        box = (left, top, left + width, top + height)
        photo.resize(size, Image.Resampling.LANCZOS, box).save(made[-1], quality=92)
    return made


def measured(command: Sequence[str], environment: dict[str, str] | None = None) -> dict:
    """The last JSON line of a process and its `wall` seconds, or `error`, its last line."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env={**os.environ, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    wall = time.perf_counter() - start
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {"wall": wall, **(json.loads(lines[-1]) if lines else {})}


def starts(photo: str, model: str, runtime: str) -> dict[str, float]:
    """Seconds of `driqa score PHOTO`: the first run with an empty cache folder, and later runs."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "driqa_jax", "score", photo, "--model", model, "--runtime", runtime]
        runs = [measured(command, {"XDG_CACHE_HOME": cache}) for _ in range(1 + STARTS)]
    for run in runs:
        if "error" in run:
            raise UserError(f"driqa score {photo}: {run['error']}")
    return {"first": runs[0]["wall"], "later": statistics.median(run["wall"] for run in runs[1:])}


def ours(args: argparse.Namespace, effort: str, how: str, photos: Sequence[str]) -> dict:
    """The result of `score_once` in a separate process. Raises UserError if it fails."""
    result = measured([sys.executable, "-m", "benchmarks.score_once", args.model, args.runtime, effort, how, *photos])
    if "error" in result:
        raise UserError(f"python -m benchmarks score, {effort}: {result['error']}")
    return result


def measure(args: argparse.Namespace, folder: pathlib.Path) -> dict:
    """All measurements as plain values."""
    small = make_photos(args.folder, folder / "small", args.photos, SMALL)
    middle = make_photos(args.folder, folder / "middle", args.large, ONE_MEGAPIXEL)
    large = make_photos(args.folder, folder / "large", args.large, LARGE)
    result = {"start": starts(small[0], args.model, args.runtime), "small": {}, "large": {}, "peers": {}}
    for effort in args.efforts:
        ours(args, effort, "each", small[:1])  # compile first: compilation needs extra memory
        run = ours(args, effort, "all", small)
        result["small"][effort] = {"per_second": len(small) / run["seconds"][0], "peak_mib": run["peak_mib"]}
    kinds = {"1 megapixel": ("each", middle), "12 megapixels": ("each", large), "decoding 12": ("decode", large)}
    for name, (how, photos) in kinds.items():
        run = ours(args, "default", how, photos)
        result["large"][name] = {"ms": 1e3 * statistics.median(run["seconds"]), "peak_mib": run["peak_mib"]}
    script = str(pathlib.Path(__file__).with_name("peers.py"))
    for name in (*DEEP, *CLASSICAL):
        photos = small[: args.peer_photos] if name in DEEP else small
        if args.peers_python is None:
            run = {"error": "no --peers-python was given"}
        else:
            run = measured([args.peers_python, script, name, *photos])
        if "error" in run:
            result["peers"][name] = {"left_out": run["error"]}
            continue
        seconds = statistics.mean(run["seconds"])
        row = {"photos": len(photos), "per_second": 1 / seconds, "peak_mib": run["peak_mib"], "used": run["used"]}
        result["peers"][name] = row
    return result


def _table(result: dict) -> list[str]:
    start, big = result["start"], result["large"]
    lines = [f"driqa score one.jpg: first run ever {start['first']:.1f} s, later {start['later']:.1f} s", ""]
    lines.append(f"{'512x384':22}{'images/s':>10}{'ms an image':>13}{'peak MiB':>10}")
    rows = {f"driqa score, {effort}": row for effort, row in result["small"].items()} | result["peers"]
    for name, row in rows.items():
        if "left_out" in row:
            lines.append(f"{name:22}  left out: {row['left_out']}")
            continue
        note = f"  {row['used']}, {row['photos']} photos" if "used" in row else ""
        rate = row["per_second"]
        lines.append(f"{name:22}{rate:10.2f}{1e3 / rate:13.0f}{row['peak_mib']:10.0f}{note}")
    lines += ["", f"{'default, one by one':22}{'ms an image':>23}{'peak MiB':>10}"]
    lines += [f"{name:22}{row['ms']:23.0f}{row['peak_mib']:10.0f}" for name, row in big.items()]
    rest = big["12 megapixels"]["ms"] - big["decoding 12"]["ms"]
    lines.append(f"12 megapixels less their decoding: {rest / big['1 megapixel']['ms']:.2f} times 1 megapixel")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--folder", default="examples/photos", help="of photographs (default: examples/photos)")
    parser.add_argument("--model", default="lite", metavar="NAME|FILE", help="as of driqa score (default: lite)")
    about = "as of driqa score (default: jax, since auto would depend on the files beside the model)"
    parser.add_argument("--runtime", choices=("jax", "onnx"), default="jax", help=about)
    about = f"efforts to measure (default: {' '.join(EFFORTS)})"
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=EFFORTS, metavar="E", help=about)
    parser.add_argument("--photos", type=int, default=200, help="of 512x384 (default: 200)")
    parser.add_argument("--large", type=int, default=20, help="of 12 megapixels (default: 20)")
    parser.add_argument("--peers-python", metavar="PATH", help="the interpreter of the peers' environment")
    parser.add_argument("--peer-photos", type=int, default=20, help="photographs for the deep peers (default: 20)")
    parser.add_argument("--json", type=result_file, metavar="F", help="also write the result to this file")
    args = parser.parse_args(argv)
    import jax

    machine = {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "load_before": round(os.getloadavg()[0], 1),
    }
    machine |= {"model": args.model, "runtime": args.runtime}
    print("{device}, {cores} cores, jax {jax}, load before: {load_before}, {model} with {runtime}".format(**machine))
    with tempfile.TemporaryDirectory() as folder:
        result = {"machine": machine, "photos": args.photos, **measure(args, pathlib.Path(folder))}
    print("\n".join(_table(result)))
    if args.json:
        write_json(args.json, result)
    return 0
