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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import driqa_jax
from benchmarks import transfer
from driqa_jax.checkpoints.load import LoadedModel, load
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import decode
from driqa_jax.data.source import Subset
from driqa_jax.data.splits import in_validation
from driqa_jax.errors import UserError
from driqa_jax.inference.scorer import Scorer
from driqa_jax.models.driqa import build_model
from driqa_jax.progress import Progress
from experiments.deduction import __main__ as experiment
from experiments.deduction import teacher
from experiments.deduction.features import RULE, Encoders
from experiments.deduction.level import Rated, levels

NAMES = "level alone", "kernel ridge", "teacher"


def predictor(
    scorer: Scorer,
    loaded: LoadedModel,
    see: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    rated: Rated,
    second: np.ndarray,
) -> transfer.PredictFn:
    """The scores of a model and of `NAMES`.

    `see`: from an image (H, W, 3) uint8 to its moments (F,) and the features of the second backbone (F',). `rated` and
    `second` (N, F'): the same of the rated photographs.
    """
    head, params = build_model(loaded.config).head, loaded.params["head"]
    ridge = teacher.fitted_ridge([rated.moments], np.float64(rated.mos))
    taught = teacher.fitted_ridge([rated.moments, second], np.float64(rated.mos))

    def seen(image):
        return see(decode(image) if isinstance(image, bytes) else image)

    def predict(images):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            moments, seconds = (np.stack(each) for each in zip(*pool.map(seen, images), strict=True))
        level = levels(head, params, moments)
        return [transfer.scores(scorer, images), level, ridge([moments]), taught([moments, seconds])]

    return predict


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
        learned = experiment.see_rated(encoders, rated, progress)
        second = teacher.see(backbone, args.features, experiment.named(rated), progress)

    def see(image):
        return encoders(image, ["moments"])["moments"], backbone(image)

    predict = predictor(driqa_jax.load(args.model), loaded, see, learned, second)
    table = transfer.compared((args.model, *NAMES), predict, sets, args.pristine)
    transfer.write([table], args.output)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction.comparison: {error}")
