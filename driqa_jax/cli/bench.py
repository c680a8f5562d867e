"""`driqa bench`: names the benchmark command. Benchmarks belong to the repository and are not installed."""

import argparse

from driqa_jax.cli.options import Subparsers
from driqa_jax.errors import UserError


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("bench", help="name the benchmark command", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.set_defaults(run=run, overrides=())


def run(args: argparse.Namespace) -> int:
    """Print the command that runs the benchmarks from a checkout. Raises UserError if a benchmark is named."""
    where = "The benchmarks are in the driqa_jax repository and are not installed. In a checkout, run"
    if args.name:
        raise UserError(f"{where} python -m benchmarks {' '.join([args.name, *args.overrides])}")
    print(f"{where} python -m benchmarks; for example python -m benchmarks step --help")
    return 0
