"""Agreement of an ONNX file with the JAX scorer, and its milliseconds.

    python -m benchmarks onnx --model mine.safetensors --photos photos/ --limit 50

Exports the model twice, scores each photo with `driqa_jax.load`, the file that reads an image and the one that reads
views, and prints the largest and the mean difference in points. Then it times both files on a 512x384 photo, on one
thread and on two. Exit code 1 if a difference exceeds the bounds that docs/EXPORT.md states.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnxruntime
from PIL import Image

from driqa_jax.checkpoints.load import load as load_model
from driqa_jax.data.decode import decode
from driqa_jax.data.views import make_view
from driqa_jax.errors import UserError
from driqa_jax.inference.exports.onnx.file import save
from driqa_jax.inference.onnx_executor import inputs_of as views_inputs
from driqa_jax.inference.scorer import Scorer, load
from driqa_jax.reports.inputs import list_pictures

BOUNDS = {"views": 0.02, "image": 0.2}  # points
ROUNDED = 0.005  # a scorer rounds its scores
SIZE = (512, 384)


def main(argv: Sequence[str]) -> int:
    """Compare and time; returns 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks onnx", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="model of the form deduction")
    parser.add_argument("--photos", required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, default=50, help="photos to compare (default: 50)")
    args = parser.parse_args(argv)
    paths = list(list_pictures([args.photos]))[: args.limit]
    if not paths:
        raise UserError(f"{args.photos}: holds no photo")
    loaded, scorer = load_model(args.model), load(args.model, runtime="jax")
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: pathlib.Path(folder) / f"{kind}.onnx" for kind in BOUNDS}
        for kind, file in files.items():
            save(file, loaded, args.model, kind)
        differences = np.array(list(compared(scorer, files, map(decode, paths))))
        failed = False
        for kind, found in zip(BOUNDS, np.abs(differences.T), strict=True):
            failed |= found.max() > BOUNDS[kind] + ROUNDED
            print(f"{kind:6} {len(found)} photos: largest difference {found.max():.4f}, mean {found.mean():.4f} points")
        photo = np.asarray(Image.fromarray(decode(paths[0])).resize(SIZE))
        for kind, file in files.items():
            for threads in (1, 2):
                median, least = milliseconds(session(file, threads), inputs_of(photo, kind, scorer))
                print(f"{kind:6} {threads} thread{'s' * (threads > 1)}: median {median:.1f} ms, least {least:.1f} ms")
    return int(failed)


def compared(scorer: Scorer, files: dict[str, pathlib.Path], images: Iterable[np.ndarray]) -> Iterator[list[float]]:
    """Per image, the score of each file minus that of `scorer`."""
    sessions = {kind: session(file, 1) for kind, file in files.items()}
    for image in images:
        (expected,) = scorer([image])
        yield [
            float(one.run(["score"], inputs_of(image, kind, scorer))[0][0]) - expected for kind, one in sessions.items()
        ]


def inputs_of(image: np.ndarray, kind: str, scorer: Scorer) -> dict[str, np.ndarray]:
    """The inputs of a file of this kind."""
    if kind == "image":
        return {"image": image}
    return views_inputs({name: value[None] for name, value in make_view(image, scorer.rule).items()}, 0)


def session(file: pathlib.Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def milliseconds(
    one: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], runs: int = 20
) -> tuple[float, float]:
    """Median and least time of a run."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        one.run(["score"], inputs)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:]), min(times[2:])
