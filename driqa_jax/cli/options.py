"""Command declarations, options that several commands share, and the values they accept."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

_STYLE = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def add_command(subparsers, name: str, summary: str, description: str, epilog: str | None = None, **defaults):
    """Declare a command or an action.

    Args:
      subparsers: from `add_subparsers`.
      name: the word on the command line.
      summary: its line in the list of commands.
      description: its first line of --help.
      epilog: examples and exit codes; line breaks are kept.
      defaults: of its namespace, such as `run`.

    Returns:
      The parser of the command.
    """
    parser = subparsers.add_parser(name, help=summary, description=description, epilog=epilog, **_STYLE)
    parser.set_defaults(**defaults)
    return parser


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """`--model`."""
    parser.add_argument(
        "--model",
        default="lite",
        metavar="NAME|FILE|WORKDIR",
        help="bundled model, .safetensors file or training workdir (default: lite)",
    )


def add_model_options(parser: argparse.ArgumentParser, max_pixels: float = 200e6) -> None:
    """`--model`, `--effort`, `--batch-size`, `--workers`, `--max-pixels`: the arguments of `scorer.load`."""
    add_model_option(parser)
    parser.add_argument(
        "--effort",
        choices=("fast", "default", "accurate"),
        default="default",
        help="fast uses fewer pixels of an image, accurate more; scores of different efforts are close, not equal "
        "(default: default)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="images per device call (default: 1 on a CPU, 16 elsewhere)",
    )
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="decoder threads (default: 2)")
    parser.add_argument(
        "--max-pixels",
        type=pixels,
        default=max_pixels,
        metavar="N",
        help=f"reject images with more pixels (default: {max_pixels / 1e6:g}e6)",
    )


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_model_options` except the model, as keywords of `load`."""
    return {name: getattr(args, name) for name in ("effort", "batch_size", "workers", "max_pixels")}


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """`--mos-range`, `--score-column`, `--split-column`: how to read a CSV of scores; see `labels`."""
    parser.add_argument(
        "--mos-range",
        type=float,
        nargs=2,
        metavar=("WORST", "BEST"),
        help="scale of a CSV's scores; 100 0 if lower is better (default: 0 1)",
    )
    parser.add_argument("--score-column", metavar="C", help="score column of a CSV, if several columns may be it")
    parser.add_argument("--split-column", metavar="C", help="split column of a CSV, if several columns may be it")


def labels(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_label_options` as keywords of `driqa_jax.cli.sources.open_data`."""
    return {
        "mos_range": tuple(args.mos_range) if args.mos_range else None,
        "score_column": args.score_column,
        "split_column": args.split_column,
    }


def add_split_file_option(parser: argparse.ArgumentParser, **keywords: Any) -> None:
    """`--split-file`; see `driqa_jax.cli.sources.assign_split`. `keywords` are those of `add_argument`."""
    about = "split written by `driqa data split`; replaces the data set's own split"
    parser.add_argument("--split-file", metavar="S.json", help=about, **keywords)


def add_paths(parser: argparse.ArgumentParser, metavar: str = "PATH", about: str = "file, folder or glob") -> None:
    """One or more positional `paths`."""
    parser.add_argument("paths", nargs="+", metavar=metavar, help=about)


def _number(kind: Callable[[str], Any], low: float, high: float, expected: str) -> Callable[[str], Any]:
    """An argparse type: a number from `low` to `high`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


positive = _number(int, 1, math.inf, "a whole number of at least 1")
pixels = _number(float, 1, sys.float_info.max, "a number of pixels, such as 300e6")
share = _number(float, 0, 1, "a number from 0 to 1")
port = _number(int, 0, 65535, "a port: a number from 0 to 65535")


def result_file(text: str) -> pathlib.Path:
    """An argparse type: a file to write. Creates its folder, so that a bad path fails before the work starts."""
    path = pathlib.Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path.parent}: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path
