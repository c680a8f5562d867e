"""Versions, devices, bundled models; parameters, multiply-adds and measured time of each part.

example:
  driqa info
  driqa info --variant s
  driqa info --model lite                  the model card: data, terms, results, known failures
"""

import argparse

from driqa_jax.cli.options import Subparsers, add_command
from driqa_jax.errors import user_errors


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "info", "versions, devices, bundled models", __doc__, run=run)
    parser.add_argument("--variant", default="lite", metavar="NAME", help="variant to show (default: lite)")
    parser.add_argument("--model", metavar="NAME|FILE|WORKDIR", help="print only the short card of this model")


def run(args: argparse.Namespace) -> int:
    """Print; returns 0. Raises UserError for an unknown variant or model."""
    if args.model:
        from driqa_jax.reports.model_card import card_lines

        print(*card_lines(args.model), sep="\n")
        return 0
    import jax

    from driqa_jax.checkpoints.weights import bundled_files, file_sha256, flatten, load_weights
    from driqa_jax.compile_cache import cache_folder, enable_compile_cache
    from driqa_jax.provenance import versions

    enable_compile_cache()
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    for device in jax.devices():
        print(f"device {device.id}: {device.platform}, {device.device_kind}")
    print(f"compiled programs: {jax.config.jax_compilation_cache_dir or f'not kept ({cache_folder()})'}")
    print("code licence: Apache-2.0")
    for name, file in bundled_files().items():
        params, metadata = load_weights(file)
        millions = sum(value.size for value in flatten(params).values()) / 1e6
        size = f"{millions:.2f} M parameters, {file.stat().st_size / 1e6:.1f} MB"
        print(f"bundled {name}: variant {metadata['variant']}, {size}, licence {metadata['licence']}")
        print(f"  sha256 {file_sha256(file)}")
    _print_parts(args.variant)
    return 0


def _print_parts(variant: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from driqa_jax.models.summary import summarize

    with user_errors("--variant: {}"):
        parts = summarize(variant)
    numbers = (Column(head, justify="right") for head in ("parameters", "multiply-adds", "ms"))
    table = Table("part", *numbers, title=f"{variant}, one photo")
    for part in parts:
        millions = f"{part.multiply_adds / 1e6:,.1f} M"
        table.add_row(part.name, f"{part.parameters:,}", millions, f"{part.milliseconds:.1f}")
    Console().print(table)
