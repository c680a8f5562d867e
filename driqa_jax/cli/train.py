"""`driqa train`: a config file and a folder to a trained model."""

from __future__ import annotations

import argparse
import shlex
import sys

from driqa_jax.cli.options import positive
from driqa_jax.errors import UserError

_PREFIX = "--config."
_EXAMPLES = """\
examples:
  driqa train --config configs/biq2021_lite.py --workdir runs/lite --config.data.path=BIQ2021/tfds
  driqa train --config configs/finetune_csv.py --config.data.path=ratings.csv --config.init=lite --workdir run
  driqa train --config F.py --workdir D --distributed 10.0.0.1:9876,4,0    # and ...,4,1 to ...,4,3 elsewhere

Any key of the configuration can be set with --config.KEY=VALUE. The same command goes on where it was
stopped, by a signal, a kill or a full disk.

exit codes: 0 trained, 1 loss or gradients were not finite (the last good state is saved), 2 usage error or a disk that
cannot be written, 130 Ctrl-C, 143 SIGTERM (both save first); of several processes, 143 where another one was told to
stop, and 1 or 134 where another one died (start all again: they go on)
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a model, or go on with a training",
        description="Train a model as a config file says.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="F.py", help="a Python file with get_config()")
    parser.add_argument("--workdir", required=True, metavar="D", help="folder for checkpoints and metrics")
    parser.add_argument(
        "--cpu-devices",
        type=positive,
        metavar="N",
        help="without an accelerator: parts of a batch that are computed side by side (default: the number of cores, "
        "or the next below it that divides the batch)",
    )
    parser.add_argument(
        "--distributed",
        default="auto",
        metavar="auto|off|HOST:PORT,N,I",
        help="several processes, one a host or one a GPU, that train together on one shared --workdir: as the cluster "
        "says, where there is one (auto, the default); not at all (off); or this one being the I-th (from 0) of N that "
        "meet at process 0's address",
    )
    parser.add_argument(
        "--help-config",
        action=_HelpConfig,
        nargs=0,
        help="print every configuration key with type, default and meaning",
    )
    parser.set_defaults(run=run, overrides=[])


class _HelpConfig(argparse.Action):
    """Print the configuration keys and exit, like --help."""

    def __call__(self, parser, *unused):
        from driqa_jax.train.config import help_text

        print(help_text())
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code of the loop."""
    settings = parse_overrides(args.overrides)
    from driqa_jax.checkpoints.manager import silence_orbax_tracebacks
    from driqa_jax.compile_cache import enable_compile_cache
    from driqa_jax.distributed import processes, side_by_side, use_cores
    from driqa_jax.train.auxiliary.registry import group_size
    from driqa_jax.train.config import read
    from driqa_jax.train.loop import train

    silence_orbax_tracebacks()
    config = read(args.config, settings)
    with processes.joined(args.distributed) as count:
        use_cores(args.cpu_devices or side_by_side(config.batch_size // count, group_size(config)))
        enable_compile_cache()
        code = train(config, args.workdir)
        if code:
            print(f"to go on: {shlex.join(args.words)}", file=sys.stderr)
        return code


def parse_overrides(words: list[str]) -> list[str]:
    """`--config.a.b=value` or `--config.a.b value` to `a.b=value`. Raises UserError for anything else."""
    found, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith(_PREFIX):
            raise UserError(f"unrecognized argument {word!r}; a key of the configuration is set by {_PREFIX}KEY=VALUE")
        key, equals, value = word.removeprefix(_PREFIX).partition("=")
        if not equals:
            if not words or words[0].startswith(_PREFIX):
                raise UserError(f"{word} lacks its value; write {word}=VALUE")
            value = words.pop(0)
        found.append(f"{key}={value}")
    return found
