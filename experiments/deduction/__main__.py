"""Trains a model of the form "deduction" on kept features and writes it as a weights file.

    python -m experiments.deduction --rated BIQ2021/rated.csv --unlabeled BIQ2021/unlabeled.csv --pristine PHOTOS \
        --seen experiments/deduction/seen.csv --features runs/features --licence CC-BY-4.0 \
        -o runs/deduction.safetensors

`--rated` is a CSV `image,mos`; BIQ2021's subset ss02 should not be in it, because its scores are close to noise. A
tenth of its groups, chosen by `--split-seed`, is held back: calibration and interval are fitted on it. The others and
the `--pristine` photographs are what `examples` draws from. With `--unlabeled`, a CSV whose scores are not read, the
level also learns from what a `teacher` says of other images. `--seen` is a CSV `image,groups` of rated or unlabeled
photographs: the codes of the groups of faults that somebody saw in each, or `none`, beside others for doubt; the
unlabeled ones among them are examples of the drops too. The backbone has ImageNet's weights, and the degradation
encoder is that of `--encoder`, whose late layers are tuned on other examples than those of the drops, so that the drops
see vectors as they are of images that the tuning did not see. Features are kept, so a stopped run continues; those of
the examples take 52 GB, and 16 GB of memory. The losses go to `metrics.jsonl` in the folder `runs/deduction`, the
output's name without its ending, from which `python -m tools.write_results` draws curves.
"""

import argparse
import csv
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

import jax
import ml_collections
import numpy as np
from PIL import Image

from driqa_jax import io
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
from experiments.deduction import encoder, teacher, training
from experiments.deduction.drops import Examples, targets
from experiments.deduction.examples import Photo, Pool, draw
from experiments.deduction.features import RULE, SEEN, Encoders, Named
from experiments.deduction.fit import fit
from experiments.deduction.level import Rated
from experiments.deduction.visible import CAMERA, CODES, GROUPS, SHARES, TYPES, WEIGHTS

HEAD = {
    **{"level_width": 384, "drop_width": 320, "context_width": 8, "top": 0.9},
    **{"shares": list(SHARES), "causes": [float(name in CAMERA) for name in TYPES], "groups": list(GROUPS)},
}
RECIPE = training.Recipe(models=3)
TUNING = encoder.Recipe()
NAMING = ("projection", "logits", "severity")  # what the form does not use of a degradation encoder
NOTHING = "none"  # what somebody saw who found nothing worth a word, or hardly anything
OPEN = 256  # pristine photographs that stay decoded
POOL = 5200  # images that a teacher scores
COUNTS = {
    **{"kadid": 12300, "part": 10000, "camera": 5400, "hard": 4600, "focus": 1500, "noise": 1500, "file": 2700},
    **{"rated": 6200, "clean": 3100, "dark": 1500, "unrated": 2300},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what features are missing, train, write the model. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.deduction", description=__doc__.split("\n")[0])
    parser.add_argument("--rated", required=True, help="CSV image,mos")
    parser.add_argument("--scale", default="0,1", help="worst and best score of the CSV")
    parser.add_argument("--unlabeled", help="CSV image,mos of images that a teacher scores (default: none)")
    parser.add_argument("--seen", help="CSV image,groups of faults that somebody saw in these images (default: none)")
    parser.add_argument("--pristine", required=True, help="folder of pristine photographs")
    parser.add_argument("--encoder", default="lite", help="model whose degradation encoder is used (default: lite)")
    parser.add_argument("--features", required=True, help="folder that keeps features")
    parser.add_argument("--seed", type=int, default=0, help="of examples and training")
    parser.add_argument("--split-seed", type=int, default=0, help="of the rated images that are held back")
    parser.add_argument("--licence", "--license", required=True, help="of the weights, one line")
    parser.add_argument("-o", "--output", required=True, help="the weights file, .safetensors")
    args = parser.parse_args(argv)
    loaded = load(args.encoder)
    params = frozen(loaded)
    config = configuration(loaded)
    model = build_model(config)
    encoders = Encoders(model, params, RULE, args.features)
    source = FolderSource(args.rated, mos_range=tuple(float(x) for x in args.scale.split(",")))
    held = in_validation(source.column("group"), args.split_seed)
    rated, validation = (Subset(source, np.flatnonzero(rows), source.name) for rows in (~held, held))
    recipe = dataclasses.replace(RECIPE, seed=args.seed)
    unlabeled = FolderSource(args.unlabeled, mos_range=(0.0, 1.0)) if args.unlabeled else None
    backbone = teacher.SecondBackbone(teacher.installed()) if unlabeled else None
    with Progress() as progress:
        learned = see_rated(encoders, rated, progress)
        taught = {}
        if backbone and unlabeled:
            images = teacher.Images(_photos(unlabeled), _photos(rated), _pristine(args.pristine))
            pool = see_pool(encoders, backbone, images, rated, learned, args.seed, progress)
            learned = Rated(*(np.concatenate(both) for both in zip(learned, pool, strict=True)))
            taught = {"taught": {"images": len(pool.mos), "second_backbone": backbone.key["model"]}}
        tuned, losses = dataclasses.replace(TUNING, seed=args.seed), Losses()
        others, tiles = see_examples(encoders, rated, args.pristine, args.seed + 1, progress)
        degradation, start = model.degradation_encoder, params["degradation_encoder"]
        known = targets(model.head, others, WEIGHTS)
        late = encoder.tune(degradation, start, tiles, others, known, tuned, progress, losses)
        params["degradation_encoder"] = late
        tuned_on = counted(others.kinds)
        del others, known
        seen = read_seen(args.seen) if args.seen else {}
        examples, tiles = see_examples(encoders, rated, args.pristine, args.seed, progress, None, seen, unlabeled)
        examples = examples._replace(vectors=encoder.vectors(degradation, late, tiles))
        params["head"] = fit(model.head, learned, examples, WEIGHTS, recipe, losses)
        losses.save(pathlib.Path(args.output).with_suffix("") / "metrics.jsonl")
        provenance = {
            **taught,
            "fit": {**dataclasses.asdict(recipe), "split_seed": args.split_seed},
            "tuning": {**dataclasses.asdict(tuned), "examples": tuned_on},
            "images": len(rated),
            "seen": len(seen),
            "examples": counted(examples.kinds),
            "degradation_encoder": params_sha256({"degradation_encoder": frozen(loaded)["degradation_encoder"]}),
            "driqa_jax": VERSION,
        }
        values = write(args.output, params, config, RULE, validation, args.licence, provenance, progress)
    print(", ".join(f"{name} {value}" for name, value in values.items()))
    return 0


class Losses:
    """A `training.ReportFn` that collects what it is told."""

    def __init__(self):
        self._told: dict[str, list[tuple[int, jax.Array]]] = {}

    def __call__(self, name: str, step: int, loss: jax.Array) -> None:
        self._told.setdefault(name, []).append((step, loss))

    def save(self, path: pathlib.Path, points: int = 500) -> None:
        """Write JSON Lines, `step` and one loss each, of at most so many `points` of a loss: means between them."""
        lines = []
        for name, told in self._told.items():
            width = -(-len(told) // points)
            for part in (told[start : start + width] for start in range(0, len(told), width)):
                mean = float(np.mean(jax.device_get([loss for _, loss in part])))
                lines.append(json.dumps({"step": part[-1][0], name: round(mean, 6)}))
        path.parent.mkdir(parents=True, exist_ok=True)
        io.write_text(path, "\n".join(lines) + "\n")


def frozen(loaded: LoadedModel) -> dict:
    """Parameters of both encoders: ImageNet's backbone, and the degradation encoder of a model without its naming."""
    degradation = loaded.params["degradation_encoder"]
    return {
        "quality_encoder": {"backbone": imagenet_weights()[0]},
        "degradation_encoder": {name: part for name, part in degradation.items() if name not in NAMING},
    }


def configuration(loaded: LoadedModel, head: dict | None = None) -> ml_collections.ConfigDict:
    """The configuration of a model with the degradation encoder of another; `head` (default: `HEAD`) as there."""
    kept = {key: loaded.config[key] for key in ("variant", "statistics") if key in loaded.config}
    return ml_collections.ConfigDict(
        {**kept, "form": "deduction", "types": list(TYPES), "dropout": 0.0, "head": head or HEAD}
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


def see_rated(encoders: Encoders, source: Source, progress: ProgressFn = silent) -> Rated:
    """What the encoders see of rated photographs, with their scores."""
    moments = encoders.moments(named(source), progress)
    return Rated(moments, source.column("mos").astype(np.float32))


def see_examples(
    encoders: Encoders,
    source: Source,
    folder: str,
    seed: int,
    progress: ProgressFn = silent,
    most: int | None = None,
    seen: Mapping[str, Sequence[str]] | None = None,
    unlabeled: Source | None = None,
) -> tuple[Examples, encoder.Tiles]:
    """What the encoders see of `COUNTS` examples, drawn from rated and unlabeled photographs and a folder of pristine
    ones.

    `most`: only the first so many of each kind. `seen`: the faults that somebody named, see `read_seen`. `unlabeled`:
    only its photographs that are in `seen` are used.
    """
    seen, rated, pristine = seen or {}, _photos(source), _pristine(folder)
    unrated = [photo._replace(score=None) for photo in _photos(unlabeled) if photo.name in seen] if unlabeled else []
    pool = Pool.of(pristine, rated, unrated)
    parts, stores, shown = [], [], []
    for kind, count in COUNTS.items():
        if kind == "unrated" and not unrated:
            continue
        count = count if most is None else min(count, most)
        photos = unrated if kind == "unrated" else rated
        # Only the photographs of unrated examples depend on what somebody saw.
        used = unrated if kind == "unrated" else [*pristine, *rated]
        said = "\n".join(photo.name for photo in used).encode()

        def make(number, kind=kind):
            return draw(kind, number, pool, seed)

        store, names = encoders.examples(f"{kind}{seed}", count, make, said, progress), [*map(str, range(count))]
        stores.append((store, names))
        arrays = store.read(names, (*SEEN, "near", "central", "area", "base", "type", "drop", "photo"))
        places = arrays.pop("photo").astype(int)
        shown += [seen.get(photos[place].name) if place >= 0 else None for place in places]
        parts.append({**arrays, "kinds": np.full(count, kind)})
    joined = {name: _joined([part.pop(name) for part in parts]) for name in list(parts[0])}
    renamed = {"vectors": joined.pop("vector"), "types": joined.pop("type").astype(int), "drops": joined.pop("drop")}
    renamed["faults"] = np.array([[np.nan if s is None else code in s for code in CODES] for s in shown], np.float32)
    renamed["doubtful"] = np.array([NOTHING in (s or ()) for s in shown])
    return Examples(**joined, **renamed), encoder.Tiles(stores)


def _joined(parts):
    """The rows of arrays one after the other; `parts` ends empty, since both would not fit into memory."""
    parts.reverse()
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts))
    row = 0
    while parts:
        part = parts.pop()
        joined[row : row + len(part)] = part
        row += len(part)
    return joined


def counted(kinds: np.ndarray) -> dict[str, int]:
    """How many examples there are of each kind."""
    return {str(kind): int(count) for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True)}


def read_seen(path: str) -> dict[str, tuple[str, ...]]:
    """The codes of `CODES` and `NOTHING` that a CSV `image,groups` has for each image, between spaces.

    Raises UserError for a file without these columns and for an unknown code.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"image", "groups"} <= rows[0].keys():
        raise UserError(f"{path}: needs the columns image and groups")
    seen = {row["image"]: tuple(row["groups"].split()) for row in rows}
    for image, codes in seen.items():
        if not codes or not set(codes) <= {*CODES, NOTHING}:
            known = ", ".join((*CODES, NOTHING))
            raise UserError(f"{path}: {image} has the groups {' '.join(codes)!r}; give some of {known}")
    return seen


def see_pool(
    encoders: Encoders,
    backbone: teacher.SecondBackbone,
    images: teacher.Images,
    source: Source,
    learned: Rated,
    seed: int,
    progress: ProgressFn = silent,
) -> Rated:
    """What the quality backbone sees of `POOL` images, with the scores of a teacher that learns from `learned`.

    `learned`: what it sees of the rated photographs of `source`.
    """
    said = "\n".join(photo.name for group in images for photo in group).encode()
    numbers = [str(number) for number in range(POOL)]

    def drawn(number):
        return teacher.draw(int(number), images, seed)

    rated = teacher.see(backbone, encoders.folder, named(source), progress)
    of_pool = Named(f"pool{seed}", numbers, drawn, lambda _: said)
    moments = encoders.moments(of_pool, progress)
    pool = teacher.see(backbone, encoders.folder, of_pool, progress)
    scores = teacher.kernel_ridge([learned.moments, rated], np.float64(learned.mos), [moments, pool])
    return Rated(moments, np.clip(scores, 0.0, 1.0).astype(np.float32))


def named(source: Source) -> Named:
    """The images of rated photographs, as `Encoders.moments` and `teacher.see` take them."""
    rows = {str(name): row for row, name in enumerate(source.column("image_id"))}

    def encoded(name):
        return source.encoded(rows[name])

    return Named("rated", list(rows), lambda name: decode(encoded(name)), encoded)


def _photos(source):
    columns = source.column("image_id"), source.column("mos")
    return [
        Photo(str(name), lambda row=row: _opened(source.encoded(row)), float(mos))
        for row, (name, mos) in enumerate(zip(*columns, strict=True))
    ]


def _pristine(folder):
    opened = functools.lru_cache(OPEN)(_opened)
    paths = list_pictures([folder])
    return [Photo(pathlib.Path(path).name, lambda path=path: opened(path), None) for path in paths]


def _opened(source):
    return Image.fromarray(decode(source))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction: {error}")
