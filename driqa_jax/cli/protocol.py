"""`driqa protocol`: trainings and evaluations over rows, splits and seeds, to one table."""

from __future__ import annotations

import argparse

from driqa_jax.errors import UserError

_EXAMPLES = """\
examples:
  driqa protocol --config configs/protocols/repeats.py --workdir repeats --config.base.data.path=ratings.csv
  driqa protocol --config configs/protocols/cross.py --workdir cross --config.across.avt.path=avt.csv
  driqa protocol --rerun cross/runs/lite/whole/seed0/run.json --workdir again

The workdir holds table.md, table.csv, table.tex, runs.csv, figures/ and, for each run, run.json and every
picture's scores. Any key of the configuration can be set with --config.KEY=VALUE. The same command goes on where it was
stopped; a run that is done is not done again. --rerun does one run anew from its record alone, and says
whether the same numbers came out.

exit codes: 0 all is done, 1 some runs failed or a rerun differs, 2 usage error, 130 Ctrl-C, 143 SIGTERM
(everything is saved)
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "protocol",
        help="train and evaluate over splits and seeds, to one table",
        description="Carry a protocol out: rows of a table, over splits and seeds, with provenance.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="F.py", help="a Python file with get_config()")
    what.add_argument("--rerun", metavar="RUN.json", help="the record of one run, to be done again and compared")
    parser.add_argument("--workdir", required=True, metavar="D", help="folder for runs, tables and figures")
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> int:
    """Carry the protocol out; returns its exit code."""
    from driqa_jax.cli.train import parse_overrides

    settings = parse_overrides(args.overrides)
    if args.rerun and settings:
        raise UserError(f"--config.{settings[0]}: a rerun changes nothing; leave it out")
    from driqa_jax.checkpoints.manager import silence_orbax_tracebacks
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.protocol.rerun import rerun
    from driqa_jax.protocol.runner import run_protocol
    from driqa_jax.train.config import read

    silence_orbax_tracebacks()
    enable_compile_cache()
    if args.rerun:
        return rerun(args.rerun, args.workdir)
    return run_protocol(read(args.config, settings), args.workdir)
