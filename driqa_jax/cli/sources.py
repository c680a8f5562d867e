"""Image sources from command-line options."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from driqa_jax.cli.options import labels
from driqa_jax.errors import UserError, user_errors
from driqa_jax.io import write_json

if TYPE_CHECKING:
    from driqa_jax.data.source import Source
    from driqa_jax.data.split_file import Split
    from driqa_jax.evaluation.tables import Table


def open_data(args: argparse.Namespace, data: str) -> tuple[Source, str]:
    """A data set by name or CSV, and its kind: "fake", "folder" (a CSV) or "tfds".

    args: `data_dir` and the options of `add_label_options`. Standard error names the score column of a CSV.
    Raises UserError.
    """
    from driqa_jax.data.label_tables import in_command
    from driqa_jax.data.open import open_source

    if data == "fake":
        return open_source("fake"), "fake"
    with user_errors():
        if data.lower().endswith(".csv") or os.path.exists(data):
            source = open_source("folder", data, images=args.data_dir, option=in_command, **labels(args))
            print(source.labels_from, file=sys.stderr)
            return source, "folder"
        if not args.data_dir:
            raise UserError(f"{data}: give --data-dir, the folder that `driqa data prepare {data}` wrote")
        return open_source("tfds", args.data_dir, data), "tfds"


def assign_split(source: Source, path: str | None) -> tuple[Source, Split | None]:
    """The source with the split of a file, and that split; without a file, the source itself. Raises UserError."""
    if not path:
        return source, None
    from driqa_jax.data.split_file import Split

    split = Split.load(path)
    return split.assigned(source), split


def write_results(folder: pathlib.Path, stem: str, table: Table, values: dict[str, Any]) -> int:
    """Write STEM.md and STEM.json to a folder, print the table and what has `failed`; returns the exit code."""
    from rich.console import Console

    from driqa_jax.evaluation.tables import save_table, to_terminal

    save_table(table, folder / f"{stem}.md")
    write_json(folder / f"{stem}.json", values)
    Console(width=None if sys.stdout.isatty() else 120).print(to_terminal(table))
    return report_failures(values["failed"].items())


def report_failures(failed: Any) -> int:
    """Print (name, reason) pairs to standard error; returns the exit code, 1 if any image failed."""
    failed = list(failed)
    for name, reason in failed:
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0
