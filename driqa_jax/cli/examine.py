"""Examine a model's degradation encoder and restorer, or its score, on pristine photographs.

examples:
  driqa examine --model runs/pretrain_lite --photos pristine/ -o exam
  driqa examine --data biq2021 --data-dir BIQ2021/tfds --split train/val --min-mos 0.8 --halve -o exam
  driqa examine --order --photos pristine/ -o exam

Writes examination.json (results and provenance), restoration.csv (PSNR and SSIM before and after restoration, for every
degradation and level), confusion.png and restoration.png.

Use pristine photographs that the model was not trained on. --seed selects the crops. KADID-10k types are classified one
at a time, at severities from 0.5 to 1. Restoration is measured at KADID-10k's five levels if it has the type, otherwise
at severities from 0.2 to 1. "psnr_gain_*" are at the middle level.

--order examines the score. Does it fall from level to level of ordered KADID-10k types? Is a pristine photograph scored
above a badly restored one? By how many points does a flip, shift, encoding or resize change the score? It uses upright
center squares of the photographs and writes order.json (results with intervals, all scores), order.md and order.png.

exit codes: 0 written, 1 some photographs failed (results exclude them), 2 usage error
"""

import argparse
import os
import pathlib

from driqa_jax.cli.options import (
    Subparsers,
    add_command,
    add_label_options,
    add_model_option,
    add_split_file_option,
    positive,
)
from driqa_jax.cli.sources import assign_split, open_data, write_results
from driqa_jax.errors import UserError, user_errors
from driqa_jax.io import make_folder, write_json, write_text
from driqa_jax.progress import Progress

CROP = 224


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "measure how well a model identifies, removes and ranks degradations"
    parser = add_command(subparsers, "examine", summary, __doc__, run=run)
    add_model_option(parser, None, "lite-0.5, which has a restoration network; with --order lite")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--photos", metavar="DIR", help="folder of pristine photographs")
    given.add_argument("--data", metavar="NAME|CSV", help="prepared data set, or CSV image,mos")
    add = parser.add_argument
    add("--data-dir", metavar="D", help="folder of the prepared set or of a CSV's images")
    add_label_options(parser)
    add("--split", default="all", metavar="S", help="images of the data set (default: all)")
    add_split_file_option(parser)
    add("--min-mos", type=float, default=0.0, metavar="M", help="lowest MOS of an image (default: 0)")
    add("--halve", action="store_true", help="average 2x2 pixels first, to remove JPEG artifacts")
    add("--count", type=positive, default=48, metavar="N", help="photographs (default: 48)")
    largest = "with --order the largest that fits the smallest photograph, at most 512"
    add("--crop", type=positive, metavar="PX", help=f"side, divisible by 32 (default: 224; {largest})")
    add("--seed", type=int, default=0, help="seed of crops and degradations (default: 0)")
    add("--pairs", metavar="DIR", help="also measure real noise: pairs NAME_real.* and NAME_mean.*, as in PolyU")
    add("--order", action="store_true", help="examine the score: its order and its stability")
    add("-o", "--output", required=True, metavar="DIR", help="output folder; created if missing")


def run(args: argparse.Namespace) -> int:
    """Examine; returns 0, or 1 if a photograph failed."""
    if args.crop and args.crop % 32:
        raise UserError(f"--crop {args.crop}: must be a multiple of 32")
    if args.order and args.pairs:
        raise UserError("--pairs: cannot be combined with --order; examine real noise without --order")
    args.model = args.model or ("lite" if args.order else "lite-0.5")
    folder = make_folder(args.output)
    source = _photographs(args)
    return _order(args, source, folder) if args.order else _parts(args, source, folder)


def _parts(args: argparse.Namespace, source, folder: pathlib.Path) -> int:
    """Examine the degradation encoder and the restorer."""
    from driqa_jax.checkpoints.load import load
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.data.pipeline import pretrain_batches
    from driqa_jax.degradations.recipes import RECIPES
    from driqa_jax.evaluation import examination
    from driqa_jax.evaluation.figures import save_figure
    from driqa_jax.models.driqa import build_model

    enable_compile_cache()
    loaded = load(args.model)
    params, metadata = loaded.params, loaded.metadata
    count, crop = min(args.count, len(source)), args.crop or CROP
    with user_errors():
        photos = next(pretrain_batches(source, crop, count, args.seed, halve=args.halve))["photo"]
    model = build_model(loaded.config)
    examiner = examination.Examiner(model, params, metadata["degradations"], photos, args.seed)
    with Progress() as progress:
        naming, restoration = examiner.naming(progress), examiner.restoration(progress)
    retrieval = examiner.retrieval(RECIPES["mixed"])
    results = examination.summary(naming, restoration, retrieval)
    if args.pairs:
        results["real_noise"] = examination.real_noise(examiner, *_pairs(args.pairs))
    write_text(folder / "restoration.csv", examination.restoration_csv(restoration))
    save_figure(examination.confusion_figure(naming), folder / "confusion.png")
    save_figure(examination.restoration_figure(restoration), folder / "restoration.png")
    provenance = _provenance(args, source, crop, metadata)
    write_json(folder / "examination.json", {**results, "provenance": provenance})
    for name, value in results.items():
        print(f"{name} {value}")
    return 0


def _order(args: argparse.Namespace, source, folder: pathlib.Path) -> int:
    """Examine the score."""
    import dataclasses

    from driqa_jax.data.pipeline import photographs
    from driqa_jax.evaluation import order
    from driqa_jax.evaluation.figures import save_figure
    from driqa_jax.evaluation.tables import Table
    from driqa_jax.inference.scorer import load

    scorer = load(args.model, runtime="jax")
    photos, failed = photographs(source, args.count, args.seed, args.halve, args.crop)
    if not photos:
        raise UserError(f"{source.name}: no photograph can be examined; the first: {next(iter(failed.values()))}")
    with Progress() as progress:
        measured = order.examine_order(scorer, photos, args.seed, progress)
    estimates = order.OrderEstimates.of(measured)
    # The title has no folder names, because figures are shared.
    title = f"{pathlib.PurePath(scorer.name).name}, {len(measured.photos)} photographs of {source.name}"
    save_figure(order.order_figure(estimates, title), folder / "order.png")
    table = Table(title, order.HEADS, estimates.rows())
    scores = {name: getattr(measured, name).tolist() for name in ("pristine", "levels", "restored", "changes")}
    values = {
        **dataclasses.asdict(estimates),
        "photos": measured.photos,
        "scores": scores,
        "failed": {**failed, **measured.failed},
        "provenance": {
            **_provenance(args, source, next(iter(photos.values())).shape[0], scorer.metadata),
            "sha256": scorer.sha256,
        },
    }
    return write_results(folder, "order", table, values)


def _provenance(args: argparse.Namespace, source, crop: int, metadata) -> dict:
    from driqa_jax.provenance import versions

    return {
        "model": args.model,
        "data": source.name,
        "split": args.split,
        "split_file": pathlib.PurePath(args.split_file).name if args.split_file else None,
        "min_mos": args.min_mos,
        "halved": args.halve,
        "crop": crop,
        "seed": args.seed,
        "step": metadata["provenance"].get("step"),
        "versions": versions(),
    }


def _photographs(args: argparse.Namespace):
    """The source of the photographs. Raises UserError."""
    from driqa_jax.data.open import open_source
    from driqa_jax.data.splits import select

    with user_errors():
        if args.photos:
            return open_source("photos", args.photos)
        source, _ = assign_split(open_data(args, args.data)[0], args.split_file)
        return select(source, args.split, 0, args.min_mos or None)


def _pairs(folder: str):
    """Noisy and clean images of the same scenes, two lists of (H, W, 3) uint8; H and W are multiples of 32.

    Raises UserError if a clean image is missing, or if there are no pairs.
    """
    from driqa_jax.data.decode import EXTENSIONS, decode

    files = sorted(
        path for path in pathlib.Path(folder).rglob("*_real.*") if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not files:
        raise UserError(f"{folder}: has no pair NAME_real.*, NAME_mean.*")
    noisy, clean = [], []
    for path in files:
        partner = path.with_name(path.name.replace("_real.", "_mean."))
        if not partner.is_file():
            raise UserError(f"{path}: the clean image {partner.name} is missing")
        for images, file in ((noisy, path), (clean, partner)):
            image = decode(os.fspath(file))
            images.append(image[: image.shape[0] // 32 * 32, : image.shape[1] // 32 * 32])
    return noisy, clean
