"""Plots in few colours, for a quarter of the bytes."""

import pathlib

from PIL import Image


def save_palette(picture: Image.Image, path: pathlib.Path) -> None:
    """A plot as a PNG of 64 colours."""
    picture.convert("RGB").quantize(64).save(path, optimize=True)
