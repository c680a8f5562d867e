"""Plots in few colours, for a quarter of the bytes."""

import os
import pathlib

from PIL import Image

from driqa_jax.train import telemetry

DOCS = pathlib.Path(__file__).resolve().parent


def save_palette(picture: Image.Image, path: pathlib.Path) -> None:
    """A plot as a PNG of 64 colours."""
    picture.convert("RGB").quantize(64).save(path, optimize=True)


def save_curves(run: str | os.PathLike) -> None:
    """The curves of a training's folder, as docs/NAME_curves.png."""
    run = pathlib.Path(run)
    telemetry.save_curves(run)
    save_palette(Image.open(run / "curves.png"), DOCS / f"{run.name}_curves.png")
