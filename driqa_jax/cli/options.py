"""Options that several commands share, and the numbers they accept."""

from __future__ import annotations

import argparse
import os
import pathlib


def add_model_options(parser: argparse.ArgumentParser, max_pixels: float = 200e6) -> None:
    """`--model`, `--effort`, `--batch-size`, `--workers`, `--max-pixels`: what `scoring.scorer.load` takes."""
    parser.add_argument(
        "--model",
        default="lite",
        metavar="NAME|FILE|WORKDIR",
        help="a bundled model, a .safetensors file or the workdir of a training (default: lite)",
    )
    parser.add_argument(
        "--effort",
        choices=("fast", "default", "accurate"),
        default="default",
        help="how hard to look: fast sees less of a picture, accurate more; scores of different efforts are close, "
        "not equal (default: default)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="pictures per call of the device (default: 1 on a CPU, 16 elsewhere)",
    )
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="threads that decode (default: 2)")
    parser.add_argument(
        "--max-pixels",
        type=pixels,
        default=max_pixels,
        metavar="N",
        help=f"refuse pictures with more pixels (default: {max_pixels / 1e6:g}e6)",
    )


def loading(args: argparse.Namespace) -> dict:
    """The options of `add_model_options`, but for the model, as keywords of `load`."""
    return {
        "effort": args.effort,
        "batch_size": args.batch_size,
        "workers": args.workers,
        "max_pixels": args.max_pixels,
    }


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """`--mos-range`, `--score-column`, `--split-column`: how a CSV of scores is read; see `labels`."""
    parser.add_argument(
        "--mos-range",
        type=float,
        nargs=2,
        metavar=("WORST", "BEST"),
        help="scale of a CSV's scores; 100 0 where lower is better (default: 0 1)",
    )
    parser.add_argument("--score-column", metavar="C", help="which column of a CSV holds the scores, where several may")
    parser.add_argument("--split-column", metavar="C", help="which column of a CSV holds the split, where several do")


def labels(args: argparse.Namespace) -> dict:
    """The options of `add_label_options` as keywords of `driqa_jax.cli.evaluate.open_data`."""
    return {
        "mos_range": tuple(args.mos_range) if args.mos_range else None,
        "score_column": args.score_column,
        "split_column": args.split_column,
    }


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def result_file(text: str) -> pathlib.Path:
    """A file to write, its folder made: what cannot be written is said before the work, not after it."""
    path = pathlib.Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path.parent}: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def pixels(text: str) -> float:
    """A number of pixels, as 300000000 or 300e6."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels, such as 300e6")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
