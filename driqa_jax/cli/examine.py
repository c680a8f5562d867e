"""`driqa examine`: how well a model names, undoes and ranks degradations, on pristine photographs."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from driqa_jax.cli.options import add_label_options, labels, positive
from driqa_jax.errors import UserError
from driqa_jax.io import make_folder, write_json, write_text
from driqa_jax.progress import Progress

_EXAMPLES = """\
examples:
  driqa examine --model runs/pretrain_lite --photos pristine/ -o exam
  driqa examine --data biq2021 --data-dir BIQ2021/tfds --split train/val --min-mos 0.8 --halve -o exam
  driqa examine --order --photos pristine/ -o exam

Writes examination.json (the figures below, with their provenance), restoration.csv (PSNR and SSIM before and after,
for every degradation and level), confusion.png and restoration.png.

The photographs must be pristine, and none that the model learned from; crops are drawn from --seed. Types of KADID-10k
are named, each alone at severities from .5 to 1; restoring is measured at KADID-10k's five levels where it has the
type, else at severities .2 to 1. "psnr_gain_*" are at the middle level.

With --order the score is examined instead: does it fall from level to level of KADID-10k's types that are worse the
more there is of them, does it put a pristine photograph above a badly restored one, and by how many points does it
move for a flip, a shift, an encoding, a resize. Writes order.json (the figures with their intervals, every score),
order.md and order.png. Squares from the middle of the photographs, upright, are looked at.

exit codes: 0 written, 1 some photographs failed (they are in no figure), 2 usage error
"""
CROP = 224


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "examine",
        help="how well a model names, undoes and ranks degradations",
        description="Examine a model's degradation encoder and restorer, or its score, on pristine photographs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", default="lite", metavar="NAME|FILE|WORKDIR", help="what to examine (default: lite)")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--photos", metavar="DIR", help="a folder of pristine photographs")
    given.add_argument("--data", metavar="NAME|CSV", help="a prepared set's name, or a CSV image,mos")
    parser.add_argument("--data-dir", metavar="D", help="where the set was prepared, or a CSV's images lie")
    add_label_options(parser)
    parser.add_argument("--split", default="all", metavar="S", help="which pictures of it (default: all)")
    parser.add_argument(
        "--split-file", metavar="S.json", help="a split that `driqa data split` wrote, not the set's own"
    )
    parser.add_argument("--min-mos", type=float, default=0.0, metavar="M", help="of at least this score")
    parser.add_argument("--halve", action="store_true", help="average 2x2 pixels into one first, to lose JPEG's traces")
    parser.add_argument("--count", type=positive, default=48, metavar="N", help="photographs (default: 48)")
    parser.add_argument(
        "--crop",
        type=positive,
        metavar="PX",
        help="side, divisible by 32 (default: 224; with --order what the smallest photograph allows, at most 512)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of crops and degradations (default: 0)")
    parser.add_argument("--pairs", metavar="DIR", help="real noise too: pairs NAME_real.* and NAME_mean.*, as in PolyU")
    parser.add_argument("--order", action="store_true", help="examine the score: its order and its stability")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write to; made if need be")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine; returns 0, or 1 where the score of a photograph failed."""
    if args.crop and args.crop % 32:
        raise UserError(f"--crop {args.crop}: give a multiple of 32")
    if args.order and args.pairs:
        raise UserError("--pairs: real noise is no part of --order; examine it without")
    folder = make_folder(args.output)
    source = _photographs(args)
    return _order(args, source, folder) if args.order else _parts(args, source, folder)


def _parts(args: argparse.Namespace, source, folder: pathlib.Path) -> int:
    """`E_d` and `R`."""
    from driqa_jax.checkpoints.load import load
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.data.pipeline import pretrain_batches
    from driqa_jax.degradations.recipes import RECIPES
    from driqa_jax.evaluation import examination, examination_report
    from driqa_jax.evaluation.figures import save_figure
    from driqa_jax.models.driqa import build_model

    enable_compile_cache()
    loaded = load(args.model)
    params, metadata = loaded.params, loaded.metadata
    count, crop = min(args.count, len(source)), args.crop or CROP
    try:
        photos = next(pretrain_batches(source, crop, count, args.seed, halve=args.halve))["photo"]
    except ValueError as error:
        raise UserError(str(error)) from error
    model = build_model(loaded.config)
    examiner = examination.Examiner(model, params, metadata["degradations"], photos, args.seed)
    with Progress() as progress:
        naming, restoration = examiner.naming(progress), examiner.restoration(progress)
    retrieval = examiner.retrieval(RECIPES["mixed"])
    found = examination_report.summary(naming, restoration, retrieval)
    if args.pairs:
        found["real_noise"] = examination_report.real_noise(examiner, *_pairs(args.pairs))
    write_text(folder / "restoration.csv", examination_report.restoration_csv(restoration))
    for name, figure in (
        ("confusion", examination_report.confusion_figure(naming)),
        ("restoration", examination_report.restoration_figure(restoration)),
    ):
        save_figure(figure, folder / f"{name}.png")
    described = _described(args, source, crop, metadata)
    write_json(folder / "examination.json", {**found, "provenance": described})
    for name, value in found.items():
        print(f"{name} {value}")
    return 0


def _order(args: argparse.Namespace, source, folder: pathlib.Path) -> int:
    """The score."""
    import dataclasses

    from rich.console import Console

    from driqa_jax.evaluation import order
    from driqa_jax.evaluation.figures import save_figure
    from driqa_jax.evaluation.pristine import photographs
    from driqa_jax.evaluation.tables import Table, save_table, to_terminal
    from driqa_jax.inference.scorer import load

    scorer = load(args.model)
    photos, failed = photographs(source, args.count, args.seed, args.halve, args.crop)
    if not photos:
        raise UserError(f"{source.name}: no photograph to examine; the first: {next(iter(failed.values()))}")
    with Progress() as progress:
        found = order.examine_order(scorer, photos, args.seed, progress)
    estimates, failed = order.OrderEstimates.of(found), {**failed, **found.failed}
    # A figure is passed on without the folders that the model lay in.
    title = f"{pathlib.PurePath(scorer.name).name}, {len(found.photos)} photographs of {source.name}"
    save_figure(order.order_figure(estimates, title), folder / "order.png")
    table = Table(title, order.HEADS, estimates.rows())
    save_table(table, folder / "order.md")
    scores = {name: getattr(found, name).tolist() for name in ("pristine", "levels", "restored", "changes")}
    values = {
        **dataclasses.asdict(estimates),
        "photos": found.photos,
        "scores": scores,
        "failed": failed,
        "provenance": {
            **_described(args, source, next(iter(photos.values())).shape[0], scorer.metadata),
            "sha256": scorer.sha256,
        },
    }
    write_json(folder / "order.json", values)
    Console(width=None if sys.stdout.isatty() else 120).print(to_terminal(table))
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _described(args: argparse.Namespace, source, crop: int, metadata) -> dict:
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


def _photographs(args):
    """The source that the options mean. Raises UserError."""
    from driqa_jax.cli.evaluate import open_data
    from driqa_jax.data.open import open_source
    from driqa_jax.data.split_file import Split
    from driqa_jax.data.splits import select

    try:
        if args.photos:
            return open_source("photos", args.photos)
        source, _ = open_data(args.data, args.data_dir, **labels(args))
        if args.split_file:
            source = Split.load(args.split_file).assigned(source)
        return select(source, args.split, 0, args.min_mos or None)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error


def _pairs(folder: str):
    """Names, noisy and clean pictures, uint8, cut to sides divisible by 32. Raises UserError."""
    from driqa_jax.data.decode import EXTENSIONS, decode

    found = sorted(
        path for path in pathlib.Path(folder).rglob("*_real.*") if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not found:
        raise UserError(f"{folder}: no pair NAME_real.*, NAME_mean.* in this folder or below it")
    noisy, clean = [], []
    for path in found:
        twin = path.with_name(path.name.replace("_real.", "_mean."))
        if not twin.is_file():
            raise UserError(f"{path}: its clean twin {twin.name} is missing")
        for pictures, file in ((noisy, path), (clean, twin)):
            picture = decode(os.fspath(file))
            pictures.append(picture[: picture.shape[0] // 32 * 32, : picture.shape[1] // 32 * 32])
    return noisy, clean
