"""Run a protocol: the rows of a table, over splits and seeds, with provenance.

examples:
  driqa protocol --config configs/protocols/repeats.py --workdir repeats --config.base.data.path=ratings.csv
  driqa protocol --config configs/protocols/cross.py --workdir cross --config.across.avt.path=avt.csv
  driqa protocol --rerun cross/runs/lite/whole/seed0/run.json --workdir again

The workdir receives table.md, table.csv, table.tex, runs.csv, figures/ and, for each run, run.json and the scores of
all images. --config.KEY=VALUE sets any key of the configuration. Run the same command again to resume; finished runs
are kept. --rerun repeats one run from its record alone and reports whether the results are the same.

exit codes: 0 finished, 1 some runs failed or a rerun differs, 2 usage error, 130 Ctrl-C, 143 SIGTERM (everything is
saved)
"""

import argparse

from driqa_jax.cli.options import Subparsers, add_command
from driqa_jax.errors import UserError


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "train and evaluate over splits and seeds"
    parser = add_command(subparsers, "protocol", summary, __doc__, run=run, overrides=[])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="F.py", help="Python file with get_config()")
    what.add_argument("--rerun", metavar="RUN.json", help="record of one run to repeat and compare")
    parser.add_argument("--workdir", required=True, metavar="D", help="folder for runs, tables and figures")


def run(args: argparse.Namespace) -> int:
    """Run the protocol; returns its exit code."""
    from driqa_jax.cli.train import parse_overrides

    settings = parse_overrides(args.overrides)
    if args.rerun and settings:
        raise UserError(f"--config.{settings[0]}: --rerun uses the recorded configuration; remove this option")
    from driqa_jax.checkpoints.manager import silence_orbax_tracebacks
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.protocol.runner import rerun, run_protocol
    from driqa_jax.train.config import read

    silence_orbax_tracebacks()
    enable_compile_cache()
    if args.rerun:
        return rerun(args.rerun, args.workdir)
    return run_protocol(read(args.config, settings), args.workdir)
