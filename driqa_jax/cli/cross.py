"""`driqa evaluate` on several data sets: one cross table."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from driqa_jax.cli.sources import report_failures
from driqa_jax.errors import UserError
from driqa_jax.io import write_json

if TYPE_CHECKING:
    from driqa_jax.evaluation.report import Report


def one_by_one(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of each data set. Raises UserError if an option is repeated neither once nor once for each set."""
    sets = [argparse.Namespace(**{**vars(args), "data": data}) for data in args.data]
    for option, default in (("data_dir", None), ("split", "test"), ("split_file", None)):
        given = getattr(args, option) or [default]
        if len(given) not in (1, len(sets)):
            times = f"given {len(given)} times for {len(sets)} --data; give it once, or once for each"
            raise UserError(f"--{option.replace('_', '-')}: {times}")
        for one, value in zip(sets, given * len(sets) if len(given) == 1 else given, strict=True):
            setattr(one, option, value or default)
    return sets


def cross_evaluate(
    args: argparse.Namespace,
    sets: Sequence[argparse.Namespace],
    evaluations: Sequence[Callable[[], tuple[Report, Any]]],
) -> int:
    """Evaluate on each set and print the cross table; returns 0, or 1 if an image or a set failed.

    sets: the options of each set. evaluations: give their reports. -o is written after each set, so that finished sets
    are kept. Raises UserError if no set could be evaluated.
    """
    from rich.console import Console

    from driqa_jax.evaluation.report import cross_table
    from driqa_jax.evaluation.tables import save_table, to_terminal

    reports: dict[str, Report] = {}
    failed = []
    for one, evaluate in zip(sets, evaluations, strict=True):
        name = _name(one, reports)
        print(name, file=sys.stderr)
        try:
            reports[name], _ = evaluate()
        except UserError as error:
            failed.append((name, str(error)))
            continue
        failed += [(f"{name}: {each['path']}", each["error"]) for each in reports[name].failed]
        if args.output:
            saved = {name: dataclasses.asdict(report) for name, report in reports.items()}
            write_json(args.output, {"sets": saved})
    if not reports:
        raise UserError(f"no set could be evaluated; {failed[0][0]}: {failed[0][1]}")
    table = cross_table(reports)
    if args.table:
        save_table(table, args.table)
    Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table))
    return report_failures(failed)


def _name(args: argparse.Namespace, taken: dict) -> str:
    """The name of a set in the table: its last path component without .csv; the split and the path if it is taken."""
    stem = pathlib.Path(args.data).stem
    names = (stem, f"{stem}, {args.split}", f"{args.data}, {args.split}", f"{args.data}, {args.split} {len(taken)}")
    return next(name for name in names if name not in taken)
