"""Command declarations, options that several commands share, and the values they accept."""

import argparse
import inspect
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

Subparsers = argparse._SubParsersAction  # from `ArgumentParser.add_subparsers`; argparse has no public name for it
_STYLE = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def add_command(subparsers: Subparsers, name: str, summary: str, about: str | None, **defaults: Any) -> ArgumentParser:
    """Declare a command or an action; returns its parser.

    Args:
      name: the word on the command line.
      summary: its line in the list of commands.
      about: its --help, usually a docstring. The first paragraph is the description; the rest, such as examples and
        exit codes, follows the options. Line breaks are kept.
      defaults: attributes of the parsed arguments, such as `run`.
    """
    description, _, epilog = inspect.cleandoc(about or "").partition("\n\n")
    parser = subparsers.add_parser(name, help=summary, description=description, epilog=epilog, **_STYLE)
    parser.set_defaults(**defaults)
    return parser


def add_model_option(parser: ArgumentParser, default: str | None = "lite", named: str = "lite") -> None:
    """`--model`; `named` describes the default in the help."""
    about = f"bundled model, .safetensors or .onnx file, or training workdir (default: {named})"
    parser.add_argument("--model", default=default, metavar="NAME|FILE|WORKDIR", help=about)


def add_model_options(parser: ArgumentParser, max_pixels: float = 200e6, default: str = "lite") -> None:
    """`--model`, `--runtime`, `--effort`, `--batch-size`, `--workers`, `--max-pixels`: arguments of `scorer.load`."""
    add_model_option(parser, default, default)
    add = parser.add_argument
    about = "fast uses fewer pixels of an image, accurate more; scores of different efforts are close, not equal"
    efforts = ("fast", "default", "accurate")
    add("--effort", choices=efforts, default="default", help=f"{about} (default: default)")
    about = "auto uses ONNX Runtime on a CPU if the model has an up-to-date .onnx file, else JAX (default: auto)"
    add("--runtime", choices=("auto", "jax", "onnx"), default="auto", help=about)
    about = "images per device call (default: 1 on a CPU, 16 elsewhere)"
    add("--batch-size", type=positive, metavar="N", help=about)
    add("--workers", type=positive, default=2, metavar="N", help="decoder threads (default: 2)")
    about = f"reject images with more pixels (default: {max_pixels / 1e6:g}e6)"
    add("--max-pixels", type=pixels, default=max_pixels, metavar="N", help=about)


def loading(args: Namespace) -> dict[str, Any]:
    """The options of `add_model_options` except the model, as keywords of `load`."""
    return {name: getattr(args, name) for name in ("runtime", "effort", "batch_size", "workers", "max_pixels")}


def add_range_option(parser: ArgumentParser, about: str) -> None:
    """`--mos-range`: two floats, the worst score first."""
    parser.add_argument("--mos-range", type=float, nargs=2, metavar=("WORST", "BEST"), help=about)


def add_label_options(parser: ArgumentParser) -> None:
    """`--mos-range`, `--score-column`, `--split-column`: how to read a CSV of scores; see `labels`."""
    add_range_option(parser, "scale of a CSV's scores; 100 0 if lower is better (default: 0 1)")
    for kind in ("score", "split"):
        about = f"{kind} column of a CSV, if several columns may be it"
        parser.add_argument(f"--{kind}-column", metavar="C", help=about)


def labels(args: Namespace) -> dict[str, Any]:
    """The options of `add_label_options` as keywords of `driqa_jax.cli.sources.open_data`."""
    mos_range = tuple(args.mos_range) if args.mos_range else None
    return {"mos_range": mos_range, "score_column": args.score_column, "split_column": args.split_column}


def add_split_file_option(parser: ArgumentParser, **keywords: Any) -> None:
    """`--split-file`; see `driqa_jax.cli.sources.assign_split`. `keywords` are those of `add_argument`."""
    about = "split written by `driqa data split`; replaces the data set's own split"
    parser.add_argument("--split-file", metavar="S.json", help=about, **keywords)


def add_paths(parser: ArgumentParser, metavar: str = "PATH", about: str = "file, folder or glob") -> None:
    """One or more positional `paths`."""
    parser.add_argument("paths", nargs="+", metavar=metavar, help=about)


def _number(kind: Callable[[str], Any], low: float, high: float, expected: str) -> Callable[[str], Any]:
    """An argparse type: a number from `low` to `high`."""

    def parse(text: str) -> Any:
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
points = _number(float, 0, 100, "a number of points from 0 to 100")
share = _number(float, 0, 1, "a number from 0 to 1")
port = _number(int, 0, 65535, "a port: a number from 0 to 65535")
