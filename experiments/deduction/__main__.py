"""Trains a model of the form "deduction" on frozen encoders and writes it as a weights file.

    python -m experiments.deduction --rated BIQ2021/rated.csv --ordinary PHONE_PHOTOS --pristine PHOTOS \
        --features runs/features --licence CC-BY-4.0 -o runs/deduction.safetensors

`--rated` is a CSV `image,mos`; BIQ2021's subset ss02 should not be in it, because its scores are close to noise. A
tenth of its groups, chosen by `--split-seed`, is held back: calibration and interval are fitted on it. The other rated
images and those of `--ordinary` also serve as ordinary images. `--pristine` photographs are reduced to 512x384 and
degraded by one random level of each of 25 types. The backbone has ImageNet's weights. Features are kept, so a stopped
run continues.
"""

import argparse
import dataclasses
import pathlib
import sys
import zlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from PIL import Image, ImageOps

from driqa_jax.checkpoints.load import LoadedModel, load
from driqa_jax.checkpoints.weights import FORMAT, params_sha256, save_weights
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.decode import decode
from driqa_jax.data.source import Source, Subset
from driqa_jax.data.splits import in_validation
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.models.driqa import build_model
from driqa_jax.models.pretrained import imagenet_weights
from driqa_jax.progress import Progress, ProgressFn, silent
from driqa_jax.reports.inputs import list_pictures
from driqa_jax.train.export import fit_on
from driqa_jax.version import VERSION
from experiments.deduction import fit as deduction
from experiments.deduction.features import RULE, Encoders, as_degraded, copies, learned_cells, ordinary
from experiments.deduction.human_scale import FIDELITY, MEANS, UNMATCHED

SIZE = (512, 384)
TONE_SHARE = 0.5
HEAD = {
    "types": list(MEANS),
    "level_width": 384,
    "drop_width": 256,
    "shares": [TONE_SHARE if name in (*FIDELITY, *UNMATCHED) else 1.0 for name in MEANS],
    "top": 0.9,
}
RECIPE = deduction.Recipe(models=3, steps=3000, ordinary=4.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what features are missing, train, write the model. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.deduction", description=__doc__.split("\n")[0])
    parser.add_argument("--rated", required=True, help="CSV image,mos")
    parser.add_argument("--scale", default="0,1", help="worst and best score of the CSV")
    parser.add_argument("--pristine", required=True, help="folder of pristine photographs")
    parser.add_argument("--ordinary", help="folder of further unrated photographs")
    parser.add_argument("--encoder", default="lite", help="model whose degradation encoder is used")
    parser.add_argument("--features", required=True, help="folder that keeps features")
    parser.add_argument("--seed", type=int, default=0, help="of degradations and training")
    parser.add_argument("--split-seed", type=int, default=0, help="of the rated images that are held back")
    parser.add_argument("--licence", "--license", required=True, help="of the weights, one line")
    parser.add_argument("-o", "--output", required=True, help="the weights file, .safetensors")
    args = parser.parse_args(argv)
    loaded = load(args.encoder)
    params = {
        "quality_encoder": {"backbone": imagenet_weights()[0]},
        "degradation_encoder": loaded.params["degradation_encoder"],
    }
    config = configuration(loaded)
    model = build_model(config)
    encoders = Encoders(model, params, RULE, args.features)
    source = FolderSource(args.rated, mos_range=tuple(float(x) for x in args.scale.split(",")))
    held = in_validation(source.column("group"), args.split_seed)
    rated, validation = (Subset(source, np.flatnonzero(rows), source.name) for rows in (~held, held))
    recipe = dataclasses.replace(RECIPE, seed=args.seed)
    with Progress() as progress:
        data = _rated(encoders, rated, progress), _degraded(encoders, args.pristine, args.seed, progress)
        others = _ordinary(encoders, rated, args.ordinary, args.seed, progress)
        params["head"] = deduction.fit(model.head, *data, others, recipe)
        learned = {"rated": len(rated), "degraded": len(data[1].drops), "ordinary": len(others)}
        provenance = {
            "fit": {**dataclasses.asdict(recipe), "split_seed": args.split_seed, "images": learned},
            "degradation_encoder": params_sha256({"degradation_encoder": params["degradation_encoder"]}),
            "driqa_jax": VERSION,
        }
        values = write(args.output, params, config, RULE, validation, args.licence, provenance, progress)
    print(", ".join(f"{name} {value}" for name, value in values.items()))
    return 0


def configuration(encoder: LoadedModel, head: dict | None = None) -> ml_collections.ConfigDict:
    """The configuration of a model with the degradation encoder of another; `head` (default: `HEAD`) as there."""
    kept = {key: encoder.config[key] for key in ("variant", "statistics") if key in encoder.config}
    types = list(encoder.metadata["degradations"])
    return ml_collections.ConfigDict(
        {**kept, "form": "deduction", "types": types, "dropout": 0.0, "head": head or HEAD}
    )


def write(
    path: str,
    params: dict,
    config: ml_collections.ConfigDict,
    rule: ViewRule,
    validation: Source,
    licence: str,
    provenance: dict,
    progress: ProgressFn = silent,
) -> dict:
    """Write the whole model with calibration and interval; returns what `fit_on` measured on `validation`."""
    metadata = {
        "format": FORMAT,
        "variant": config.variant,
        "config": config.to_dict(),
        "view": rule.to_dict(),
        "degradations": list(config.types),
        "licence": licence,
    }
    fitted, values = fit_on(params, metadata, validation, progress, lambda line: print(line, file=sys.stderr))
    save_weights(path, params, {**metadata, **fitted, "provenance": {**provenance, "validation": values}})
    return values


def _rated(encoders, source, progress):
    rows = {str(name): row for row, name in enumerate(source.column("image_id"))}
    groups = {name: (lambda row=row: [decode(source.encoded(row))]) for name, row in rows.items()}
    kept = encoders.kept("rated", groups, lambda name: source.encoded(rows[name]), ["moments"], progress)
    return deduction.Rated(kept["moments"][:, 0], source.column("mos").astype(np.float32))


def _ordinary(encoders, source, folder, seed, progress):
    read = {str(name): (lambda row=row: source.encoded(row)) for row, name in enumerate(source.column("image_id"))}
    if folder:
        read |= {path: pathlib.Path(path).read_bytes for path in list_pictures([folder])}
    groups = {
        name: (lambda name=name, file=file: [ordinary(decode(file()), _seed(seed, name))])
        for name, file in read.items()
    }
    return encoders.kept(f"ordinary{seed}", groups, lambda name: read[name](), ["vector"], progress)["vector"][:, 0]


def _degraded(encoders, folder, seed, progress):
    paths = list(list_pictures([folder]))
    cells = {path: learned_cells(_seed(seed, pathlib.Path(path).name)) for path in paths}

    def images(path):
        photo = Image.fromarray(decode(path))
        size = SIZE if photo.width >= photo.height else SIZE[::-1]
        reduced = np.asarray(ImageOps.fit(photo, size, Image.Resampling.BICUBIC))
        return list(copies(reduced, pathlib.Path(path).name, cells[path], seed))

    groups = {path: (lambda path=path: images(path)) for path in paths}
    kept = encoders.kept(f"degraded{seed}", groups, lambda path: pathlib.Path(path).read_bytes(), progress=progress)
    return as_degraded(kept["moments"], kept["vector"], [cells[path] for path in paths])


def _seed(seed: int, name: str) -> int:
    """A seed that stays with an image when others are added, as its kept features do."""
    return seed + zlib.crc32(name.encode())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction: {error}")
