"""`python -m experiments.restored_images --config F.py --workdir D [--config.KEY=VALUE]`; see `config.py`."""

import argparse
import sys
from collections.abc import Sequence

from driqa_jax.cli.train import parse_overrides
from driqa_jax.compile_cache import enable_compile_cache
from driqa_jax.errors import UserError
from driqa_jax.train.config import read
from experiments.restored_images import study


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study, or resume it. Returns 0, 1 if an image failed, 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="python -m experiments.restored_images", allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="F.py", help="a Python file with get_config()")
    parser.add_argument("--workdir", required=True, metavar="D", help="folder for results, tables and figures")
    args, rest = parser.parse_known_args(argv)
    try:
        config = read(args.config, parse_overrides(rest))
        if config.get("kind") != "restored":
            raise UserError(f"config.kind must be 'restored', got {config.get('kind')!r}")
        enable_compile_cache()
        return study.run(config, args.workdir)
    except UserError as error:
        print(f"experiments.restored_images: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
