"""A contact sheet: degradations by severity on one photograph."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from driqa_jax.degradations import apply

SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABEL, _HEADER, _GAP, _FONT = 190, 30, 4, 15  # px


def severity_grid(
    photo: np.ndarray, names: Sequence[str], severities: Sequence[float] = SEVERITIES, seed: int = 0
) -> np.ndarray:
    """Each degradation at each severity, in one compiled program: (names, severities, H, W, 3) uint8.

    photo: (H, W, 3) uint8, sides at least 32. The images of a row share a key, so only the severity differs. Raises
    ValueError for a smaller photo.
    """
    image = photo.astype(np.float32) / 255.0

    @jax.jit
    def rows(key, image, severities):
        keys = jax.random.split(key, len(names))
        images = [
            jax.lax.map(lambda s, name=name, key=key: apply(name, key, image, s), severities)
            for name, key in zip(names, keys, strict=True)
        ]
        return jnp.round(jnp.stack(images) * 255.0).astype(jnp.uint8)

    return np.asarray(rows(jax.random.key(seed), image, np.asarray(severities, np.float32)))


def contact_sheet(grid: np.ndarray, names: Sequence[str], severities: Sequence[float] = SEVERITIES) -> Image.Image:
    """The grid as one labelled image: a row for each name, a column for each severity."""
    rows, columns, height, width, _ = grid.shape
    size = (_LABEL + columns * (width + _GAP), _HEADER + rows * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for column, severity in enumerate(severities):
        centre = _LABEL + column * (width + _GAP) + width // 2
        draw.text((centre, _HEADER // 2), f"{severity:g}", "black", font, anchor="mm")
    for row, name in enumerate(names):
        top = _HEADER + row * (height + _GAP)
        for line, word in enumerate(_lines(name, font)):
            draw.text((8, top + height // 2 + line * (_FONT + 4)), word, "black", font, anchor="lm")
        for column in range(columns):
            sheet.paste(Image.fromarray(grid[row, column]), (_LABEL + column * (width + _GAP), top))
    return sheet


def _lines(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The name, broken after underscores to fit the margin."""
    lines = [""]
    for part in name.replace("_", "_ ").split():
        fits = font.getlength(lines[-1] + part) <= _LABEL - 16
        lines = [*lines[:-1], lines[-1] + part] if fits else [*lines, part]
    return lines
