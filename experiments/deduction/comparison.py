"""The bundled model beside what it is built on and taught by: one table on images that nobody trained on.

    python -m experiments.deduction.comparison --rated BIQ2021/rated.csv --set LIVE-C=LIVEC/dev.csv \
        --scale LIVE-C=0,100 --pristine OTHER_PHOTOS --features runs/features -o docs/results/comparison.md

`--rated` and `--features` are those of `experiments.deduction`, the other options those of `benchmarks transfer`.
Beside the model stand its level without the ceiling; the kernel ridge on the moments of its frozen backbone; and the
teacher, the same with the features of a second backbone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import driqa_jax
from benchmarks import transfer
from driqa_jax.checkpoints.load import load
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import decode
from driqa_jax.data.source import Subset
from driqa_jax.data.splits import in_validation
from driqa_jax.errors import UserError
from driqa_jax.models.driqa import build_model
from driqa_jax.progress import Progress
from experiments.deduction import __main__ as experiment
from experiments.deduction import fit as deduction
from experiments.deduction import teacher
from experiments.deduction.features import RULE, Encoders

NAMES = "level alone", "kernel ridge", "teacher"


class Compared:
    """A `transfer.PredictFn`: the scores of the model and of `NAMES`.

    `moments` (N, F) and `second` (N, F') of the rated photographs, with their scores `mos` (N,).
    """

    def __init__(
        self,
        model: str,
        encoders: Encoders,
        backbone: teacher.SecondBackbone,
        moments: np.ndarray,
        second: np.ndarray,
        mos: np.ndarray,
    ):
        self._scorer, loaded = driqa_jax.load(model), load(model)
        self._head, self._params = build_model(loaded.config).head, loaded.params["head"]
        self._encoders, self._backbone = encoders, backbone
        self._moments, self._second, self._mos = moments, second, np.float64(mos)

    def __call__(self, images: Sequence[bytes | np.ndarray]) -> list[np.ndarray]:
        """The scores (M,) of each."""

        def seen(image):
            image = decode(image) if isinstance(image, bytes) else image
            return self._encoders(image, ["moments"])["moments"], self._backbone(image)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            moments, second = (np.stack(each) for each in zip(*pool.map(seen, images), strict=True))
        level = deduction.levels(self._head, self._params, moments)
        ridge = teacher.kernel_ridge([self._moments], self._mos, [moments])
        taught = teacher.kernel_ridge([self._moments, self._second], self._mos, [moments, second])
        return [transfer.scores(self._scorer, images), level, ridge, taught]


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what features are missing, score the sets, print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.deduction.comparison", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rated", required=True, help="CSV image,mos in [0, 1]")
    transfer.add_sets(parser)
    parser.add_argument("--features", required=True, help="folder that keeps features")
    parser.add_argument("--model", default="lite", help="bundled name or weights file of the form deduction")
    parser.add_argument("--split-seed", type=int, default=0, help="of the rated images that are held back")
    parser.add_argument("-o", "--output", help="also write the table, as Markdown")
    args = parser.parse_args(argv)
    sets = transfer.sources(args)
    loaded = load(args.model)
    params = experiment.frozen(loaded)
    encoders = Encoders(build_model(experiment.configuration(loaded)), params, RULE, args.features)
    backbone = teacher.SecondBackbone(teacher.installed())
    source = FolderSource(args.rated, mos_range=(0.0, 1.0))
    rated = Subset(source, np.flatnonzero(~in_validation(source.column("group"), args.split_seed)), source.name)
    with Progress() as progress:
        moments, mos = experiment.see_rated(encoders, rated, progress)
        second = teacher.see(backbone, args.features, experiment.named(rated), progress)
    compared = Compared(args.model, encoders, backbone, moments, second, mos)
    table = transfer.compared((args.model, *NAMES), compared, sets, args.pristine)
    transfer.write([table], args.output)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction.comparison: {error}")
