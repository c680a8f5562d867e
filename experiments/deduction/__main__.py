"""Trains the deduction head on frozen encoders and writes it as a safetensors file.

    python -m experiments.deduction --rated BIQ2021/rated.csv --ordinary PHONE_PHOTOS --pristine PHOTOS \
        --features runs/features -o runs/head.safetensors

`--rated` is a CSV `image,mos`; BIQ2021's subset ss02 should not be in it, because its scores are close to noise.
Rated images and those of `--ordinary` also serve as ordinary images. `--pristine` photographs are reduced to 512x384
and degraded by one random level of each of 25 types. Features take about .3 s an image on one core and are kept.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps

from driqa_jax import io
from driqa_jax.checkpoints.load import load
from driqa_jax.checkpoints.weights import flatten
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import decode
from driqa_jax.errors import UserError
from driqa_jax.models.driqa import build_model
from driqa_jax.progress import Progress
from driqa_jax.reports.inputs import list_pictures
from experiments.deduction import fit as deduction
from experiments.deduction.features import RULE, Encoders, as_degraded, copies, learned_cells, ordinary
from experiments.deduction.head import DeductionHead
from experiments.deduction.human_scale import FIDELITY, MEANS, UNMATCHED

SIZE = (512, 384)
TONE_SHARE = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what features are missing, train, write the head. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.deduction", description=__doc__.split("\n")[0])
    parser.add_argument("--rated", required=True, help="CSV image,mos")
    parser.add_argument("--scale", default="0,1", help="worst and best score of the CSV")
    parser.add_argument("--pristine", required=True, help="folder of pristine photographs")
    parser.add_argument("--ordinary", help="folder of further unrated photographs")
    parser.add_argument("--encoder", default="lite", help="model whose degradation encoder is used")
    parser.add_argument("--features", required=True, help="folder that keeps features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args(argv)
    loaded = load(args.encoder)
    encoders = Encoders(loaded, build_model(loaded.config), args.features)
    source = FolderSource(args.rated, mos_range=tuple(float(x) for x in args.scale.split(",")))
    with Progress() as progress:
        data = _rated(encoders, source, progress), _degraded(encoders, args.pristine, args.seed, progress)
        others = _ordinary(encoders, source, args.ordinary, args.seed, progress)
    shares = tuple(TONE_SHARE if name in (*FIDELITY, *UNMATCHED) else 1.0 for name in MEANS)
    head = DeductionHead(len(MEANS), level_width=384, drop_width=256, shares=shares, top=0.9)
    recipe = deduction.Recipe(models=3, steps=3000, ordinary=4.0, seed=args.seed)
    params = deduction.fit(head, *data, others, recipe)
    tensors = {name: np.asarray(value, np.float32) for name, value in flatten(params).items()}
    described = {
        "head": {name: getattr(head, name) for name in ("types", "level_width", "drop_width", "shares", "top")},
        "recipe": dataclasses.asdict(recipe),
        "view": RULE.to_dict(),
        "degradations": list(MEANS),
    }
    io.write_bytes(args.output, safetensors.numpy.save(tensors, {k: json.dumps(v) for k, v in described.items()}))
    return 0


def _rated(encoders, source, progress):
    rows = {str(name): row for row, name in enumerate(source.column("image_id"))}
    groups = {name: (lambda row=row: [decode(source.encoded(row))]) for name, row in rows.items()}
    moments, _ = encoders.kept("rated", groups, lambda name: source.encoded(rows[name]), progress)
    return deduction.Rated(moments[:, 0], source.column("mos").astype(np.float32))


def _ordinary(encoders, source, folder, seed, progress):
    read = {str(name): (lambda row=row: source.encoded(row)) for row, name in enumerate(source.column("image_id"))}
    if folder:
        read |= {path: pathlib.Path(path).read_bytes for path in list_pictures([folder])}
    groups = {
        name: (lambda number=number, file=file: [ordinary(decode(file()), seed + number)])
        for number, (name, file) in enumerate(read.items())
    }
    _, vectors = encoders.kept(f"ordinary{seed}", groups, lambda name: read[name](), progress)
    return vectors[:, 0]


def _degraded(encoders, folder, seed, progress):
    paths = list(list_pictures([folder]))
    cells = {path: learned_cells(seed + number) for number, path in enumerate(paths)}

    def images(path):
        photo = Image.fromarray(decode(path))
        size = SIZE if photo.width >= photo.height else SIZE[::-1]
        reduced = np.asarray(ImageOps.fit(photo, size, Image.Resampling.BICUBIC))
        return list(copies(reduced, pathlib.Path(path).name, cells[path], seed))

    groups = {path: (lambda path=path: images(path)) for path in paths}
    kept = encoders.kept(f"degraded{seed}", groups, lambda path: pathlib.Path(path).read_bytes(), progress)
    return as_degraded(*kept, [cells[path] for path in paths])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction: {error}")
