"""`driqa bench NAME`: measurements that anyone can repeat; each is a file of `driqa_jax/bench/`."""

from __future__ import annotations

import argparse
import importlib

from driqa_jax.errors import UserError

# What each measures, one line; the module's own parser takes the options.
BENCHES = {
    "degradations": "images a second of each degradation and of a recipe, beside a host pipeline",
    "score": "images a second, start-up and peak memory of driqa score, beside other packages",
    "step": "images a second of the training step, with either backward pass of the depthwise convolution",
    "topology": "memory, FLOPs and collectives of the training step on a TPU topology, compiled without one",
}


def add_parser(subparsers) -> None:
    """Declare the command."""
    # Help is the benchmark's own, since only that knows the options; importing all of them here would cost a second.
    parser = subparsers.add_parser("bench", help="measure speed and memory here", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.set_defaults(run=run, overrides=())


def run(args: argparse.Namespace) -> int:
    """Hand the remaining options to the benchmark; without a name, list them."""
    if args.name is None:
        print("usage: driqa bench NAME [options]; for example driqa bench step --help\n")
        for name, line in BENCHES.items():
            print(f"  {name:14}{line}")
        print("\nexample:\n  driqa bench step --batch 8")
        return 0
    if args.name not in BENCHES:
        raise UserError(f"no benchmark is called {args.name!r}; there are {', '.join(BENCHES)}")
    return importlib.import_module(f"driqa_jax.bench.{args.name}").main(list(args.overrides))
