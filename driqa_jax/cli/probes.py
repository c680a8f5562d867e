"""`driqa evaluate --probes`: how well degradation and quality vectors are separated."""

import argparse
import dataclasses

import numpy as np

from driqa_jax.cli.options import loading
from driqa_jax.cli.sources import write_results
from driqa_jax.data.open import open_source
from driqa_jax.data.pipeline import photographs
from driqa_jax.data.source import Source
from driqa_jax.data.splits import select
from driqa_jax.degradations.recipes import KADID
from driqa_jax.errors import UnreadableImage, UserError, user_errors
from driqa_jax.evaluation import examination, probes
from driqa_jax.evaluation.probes import FOLDS, Reader, stacked
from driqa_jax.evaluation.tables import Table
from driqa_jax.inference import scorer as scoring
from driqa_jax.inference.provenance import describe
from driqa_jax.io import make_folder
from driqa_jax.progress import Progress, ProgressFn

PRISTINE_MOS = 0.8


def probe(args: argparse.Namespace, part: Source) -> int:
    """Probe the images of `part`; returns 0, or 1 if an image failed. Raises UserError."""
    folder = make_folder(args.probes)
    pristine, photos, lost = _pristine(args, part)
    scorer = scoring.load(args.model, **{**loading(args), "runtime": "jax"})
    reader = Reader(scorer.model, scorer.params, scorer.rule)
    stack = np.stack(list(photos.values()))
    examiner = examination.Examiner(scorer.model, scorer.params, scorer.degradations, stack, args.seed)
    with Progress() as progress:
        labeled, good, failed = _labeled(args, reader, part, progress)
        degraded, labels, owners = probes.read_degraded(examiner, reader, len(photos), progress)
        restoration = examiner.restoration(progress, KADID)
    groups, mos = part.column("group")[good], part.column("mos")[good]
    results = probes.ProbeResults(
        probes.probe_mos(labeled, mos, groups, args.bootstrap, args.seed),
        probes.probe_types(degraded, labels, owners, args.seed),
        int(labels.max()) + 1,
        {
            "scored pictures": probes.compare(labeled, groups, args.seed),
            "degraded photographs": probes.compare(degraded, owners, args.seed),
        },
        probes.gains(restoration, args.seed),
    )
    table = Table(f"{scorer.name} on {part.name}", probes.HEADS, results.rows())
    values = {
        **dataclasses.asdict(results),
        "failed": {**lost, **failed},
        "provenance": {
            **describe(scorer),
            "data": part.name,
            "pictures": int(good.sum()),
            "pristine": pristine,
            "photographs": sorted(photos),
            "side": stack.shape[1],
            "seed": args.seed,
        },
    }
    return write_results(folder, "probes", table, values)


def _pristine(args: argparse.Namespace, part: Source) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """Name of the source, pristine photographs by id, and the reason of each failure by id. Raises UserError."""
    with user_errors("no pristine photographs: {}; give some with --pristine"):
        source = open_source("photos", args.pristine) if args.pristine else select(part, "all", 0, PRISTINE_MOS)
    photos, failed = photographs(source, args.probe_photos, args.seed, halve=not args.pristine)
    if len(photos) < FOLDS:
        raise UserError(f"{source.name}: {len(photos)} pristine photographs; give at least {FOLDS}")
    return source.name, photos, failed


def _labeled(args: argparse.Namespace, reader: Reader, part: Source, progress: ProgressFn):
    """Representations of the images, which images have them, (N,) bool, and the reason of each failure by id.

    Raises UserError if fewer than `FOLDS` scenes remain.
    """
    readings, good, failed = [], np.zeros(len(part), bool), {}
    for row, name in enumerate(part.column("image_id").tolist()):
        try:
            readings.append(reader(part.read(row), name))
            good[row] = True
        except UnreadableImage as error:
            failed[name] = error.reason
        progress("reading images", row + 1, len(part))
    if len(np.unique(part.column("group")[good])) < FOLDS:
        raise UserError(f"{args.data}: has fewer than {FOLDS} scenes for probes; {len(failed)} images failed")
    return stacked(readings), good, failed
