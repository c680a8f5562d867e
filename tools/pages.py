"""Write measured values and plots into the pages of docs/."""

import os
import pathlib
import re

from PIL import Image

from driqa_jax.train import telemetry

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"


def write_blocks(page: pathlib.Path, blocks: dict[str, str]) -> None:
    """Replace the text between the marks `<!-- name -->` and `<!-- /name -->` of each block that the page has."""
    text = page.read_text()
    for name, block in blocks.items():
        body = f"<!-- {name} -->\n{block}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->(?:.*?<!-- /{name} -->)?", lambda _, body=body: body, text, flags=re.S)
    page.write_text(text)


def save_palette(image: Image.Image, path: pathlib.Path) -> None:
    """Save a plot as a PNG of 64 colors, a quarter of the bytes."""
    image.convert("RGB").quantize(64).save(path, optimize=True)


def save_curves(run: str | os.PathLike) -> None:
    """Save the curves of a training's folder as docs/NAME_curves.png."""
    run = pathlib.Path(run)
    telemetry.save_curves(run)
    save_palette(Image.open(run / "curves.png"), DOCS / f"{run.name}_curves.png")
