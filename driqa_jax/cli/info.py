"""`driqa info`: versions, devices and bundled models."""

from __future__ import annotations

import argparse

from driqa_jax.cli.options import add_command

_EXAMPLES = """\
example:
  driqa info
  driqa info --variant s
  driqa info --model lite                  the model card: data, terms, results, known failures
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    about = "Versions, devices, bundled models; parameters, multiply-adds and measured time of each part."
    parser = add_command(subparsers, "info", "versions, devices, bundled models", about, _EXAMPLES, run=run)
    parser.add_argument("--variant", default="lite", metavar="NAME", help="variant to show (default: lite)")
    parser.add_argument("--model", metavar="NAME|FILE|WORKDIR", help="print only the short card of this model")


def run(args: argparse.Namespace) -> int:
    """Print; returns 0. Raises UserError for an unknown variant or model."""
    if args.model:
        return _print_card(args.model)
    import jax
    from rich.console import Console

    from driqa_jax.checkpoints.weights import bundled_files
    from driqa_jax.compile_cache import cache_folder, enable_compile_cache
    from driqa_jax.provenance import versions

    enable_compile_cache()
    console = Console(soft_wrap=True, highlight=False)
    console.print(", ".join(f"{name} {version}" for name, version in versions().items()))
    for device in jax.devices():
        console.print(f"device {device.id}: {device.platform}, {device.device_kind}", markup=False)
    console.print(f"compiled programs: {jax.config.jax_compilation_cache_dir or f'not kept ({cache_folder()})'}")
    console.print("code licence: Apache-2.0")
    for name, file in bundled_files().items():
        _print_model(console, name, file)
    _print_parts(console, args.variant)
    return 0


def _print_card(model: str) -> int:
    from driqa_jax.checkpoints.load import load
    from driqa_jax.checkpoints.weights import file_sha256
    from driqa_jax.reports.model_card import card_lines

    loaded = load(model)
    for line in card_lines(model, loaded, file_sha256(loaded.file) if loaded.file else None):
        print(line)
    return 0


def _print_model(console, name, file) -> None:
    from driqa_jax.checkpoints.weights import file_sha256, flatten, load_weights

    params, metadata = load_weights(file)
    count = sum(value.size for value in flatten(params).values())
    console.print(
        f"bundled {name}: variant {metadata['variant']}, {count / 1e6:.2f} M parameters, "
        f"{file.stat().st_size / 1e6:.1f} MB, licence {metadata['licence']}\n  sha256 {file_sha256(file)}",
        markup=False,
    )


def _print_parts(console, variant) -> None:
    from rich.table import Table

    from driqa_jax.errors import UserError
    from driqa_jax.models.summary import summarize

    try:
        parts = summarize(variant)
    except ValueError as error:
        raise UserError(f"--variant: {error}") from None
    table = Table("part", "parameters", "multiply-adds", "ms", title=f"{variant}, one photo")
    for column in table.columns[1:]:
        column.justify = "right"
    for part in parts:
        table.add_row(
            part.name,
            f"{part.parameters:,}",
            f"{part.multiply_adds / 1e6:,.1f} M",
            f"{part.milliseconds:.1f}",
        )
    console.print(table)
