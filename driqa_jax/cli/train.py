"""Train a model from a config file, or resume a training.

examples:
  driqa train --config configs/biq2021_lite.py --workdir runs/lite --config.data.path=BIQ2021/tfds
  driqa train --config configs/finetune_csv.py --config.data.path=ratings.csv --config.init=lite-0.5 --workdir run
  driqa train --config F.py --workdir D --distributed 10.0.0.1:9876,4,0    # and ...,4,1 to ...,4,3 elsewhere

--config.KEY=VALUE sets any key of the configuration. Run the same command again to resume after a signal, a kill or a
full disk.

exit codes: 0 trained, 1 loss or gradients were not finite (the last finite state is saved), 2 usage error or a disk
that cannot be written, 130 Ctrl-C, 143 SIGTERM (both save first). With several processes: 143 if another process was
terminated, 1 or 134 if another process died (restart all of them to resume)
"""

import argparse
import shlex
import sys

from driqa_jax.cli.options import Subparsers, add_command, positive
from driqa_jax.errors import UserError

_PREFIX = "--config."


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "train", "train a model or resume", __doc__, run=run, overrides=[])
    add = parser.add_argument
    add("--config", required=True, metavar="F.py", help="Python file with get_config()")
    add("--workdir", required=True, metavar="D", help="folder for checkpoints and metrics")
    default = "the largest number up to the core count that divides the batch"
    about = f"without an accelerator: batch parts computed in parallel (default: {default})"
    add("--cpu-devices", type=positive, metavar="N", help=about)
    about = (
        "several processes, one per host or GPU, train together in one shared --workdir. auto (the default): as the "
        "cluster environment says, if there is one; off: one process; HOST:PORT,N,I: this is process I (from 0) of N, "
        "and process 0 listens at HOST:PORT"
    )
    add("--distributed", default="auto", metavar="auto|off|HOST:PORT,N,I", help=about)
    about = "print every configuration key with type, default and meaning"
    add("--help-config", action=_HelpConfig, nargs=0, help=about)


class _HelpConfig(argparse.Action):
    """Print the configuration keys and exit, like --help."""

    def __call__(self, parser, *unused):
        from driqa_jax.train.config import help_text

        print(help_text())
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code of the training loop."""
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
            print(f"to resume: {shlex.join(args.words)}", file=sys.stderr)
        return code


def parse_overrides(words: list[str]) -> list[str]:
    """`--config.a.b=value` or `--config.a.b value` as `a.b=value`. Raises UserError for anything else."""
    settings, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith(_PREFIX):
            raise UserError(f"unrecognized argument {word!r}; set a configuration key with {_PREFIX}KEY=VALUE")
        key, equals, value = word.removeprefix(_PREFIX).partition("=")
        if not equals:
            if not words or words[0].startswith(_PREFIX):
                raise UserError(f"{word} has no value; write {word}=VALUE")
            value = words.pop(0)
        settings.append(f"{key}={value}")
    return settings
