"""`driqa evaluate` on several data sets: one cross table."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from driqa_jax.cli.evaluate import choose, evaluate, one_by_one, scorer_of
from driqa_jax.cli.sources import report_failures
from driqa_jax.errors import UserError
from driqa_jax.io import write_json

if TYPE_CHECKING:
    from driqa_jax.evaluation.report import Report

_ONE_SET = ("probes", "per_image", "figures")


def cross_evaluate(args: argparse.Namespace) -> int:
    """Evaluate on each set and print the cross table; returns 0, or 1 if an image or a set failed.

    -o is written after each set, so that finished sets are kept. Raises UserError for wrong options, before any image
    is scored, and if no set could be evaluated.
    """
    for option in _ONE_SET:
        if getattr(args, option):
            raise UserError(f"--{option.replace('_', '-')}: works with one --data at a time")
    sets = one_by_one(args)
    chosen = [choose(one) for one in sets]  # a wrong path or column fails before the first image is scored
    scorer, reports, failed = scorer_of(args), {}, []
    for one, images in zip(sets, chosen, strict=True):
        name = _name(one, reports)
        print(f"{name}: {len(images.part)} images", file=sys.stderr)
        try:
            report, _ = evaluate(one, images, scorer)
        except UserError as error:
            failed.append((name, str(error)))
            continue
        reports[name] = report
        failed += [(f"{name}: {each['path']}", each["error"]) for each in report.failed]
        if args.output:
            _save(args.output, reports)
    if not reports:
        raise UserError(f"no set could be evaluated; {failed[0][0]}: {failed[0][1]}")
    _show(args, reports)
    return report_failures(failed)


def _name(args: argparse.Namespace, taken: dict) -> str:
    """The name of a set in the table: its last path component without .csv; the split and the path if it is taken."""
    stem = pathlib.Path(args.data).stem
    names = (stem, f"{stem}, {args.split}", f"{args.data}, {args.split}", f"{args.data}, {args.split} {len(taken)}")
    return next(name for name in names if name not in taken)


def _save(path: str, reports: dict[str, Report]) -> None:
    import dataclasses

    write_json(path, {"sets": {name: dataclasses.asdict(report) for name, report in reports.items()}})


def _show(args: argparse.Namespace, reports: dict[str, Report]) -> None:
    from rich.console import Console

    from driqa_jax.evaluation.cross import cross_table
    from driqa_jax.evaluation.tables import save_table, to_terminal

    table = cross_table(reports)
    if args.table:
        save_table(table, args.table)
    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table))
