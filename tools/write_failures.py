"""Find failures of the bundled `lite` on the examples: docs/failures.jpg and a block of MODEL_CARD.md.

python -m tools.write_failures

Each photograph is degraded at two severities by every type whose quality falls with severity, and by the artifacts of
excessive restoration. Of the images that score no lower than their photograph, the page lists the worst of each type.
"""

import pathlib

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import driqa_jax
from driqa_jax.degradations import DEGRADATIONS, apply
from driqa_jax.degradations.recipes import BADLY_RESTORED
from tools.pages import DOCS, ROOT, write_blocks

PHOTOS = ROOT / "examples" / "photos"
SEVERITIES = (0.5, 1.0)
SIDE, CUT, SHOWN = 240, 320, 6  # px of a shown image; px of its center crop; number of images


def main() -> None:
    """Find failures, draw them, write the block."""
    scorer = driqa_jax.load()
    photos = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in good_photos()}
    scores = {name: scorer(photo) for name, photo in photos.items()}
    names = [entry.name for entry in DEGRADATIONS if entry.ordered or entry.name in BADLY_RESTORED]
    degrade = jax.jit(apply, static_argnums=0)
    tried, wrong = 0, []
    for kind in names:
        for name, photo in photos.items():
            for severity in SEVERITIES:
                made = degrade(kind, jax.random.key(0), photo.astype(np.float32) / 255, severity)
                worse = np.rint(np.asarray(made) * 255).astype(np.uint8)
                gain, tried = scorer(worse) - scores[name], tried + 1
                if gain >= 0:
                    wrong.append((gain, kind, severity, name, worse))
    wrong.sort(key=lambda each: -each[0])
    worst = list({each[1]: each for each in reversed(wrong)}.values())[::-1]
    worst.sort(key=lambda each: -each[0])
    rows = ["| type | severity | photo | score | of the photo itself |", "|---|---|---|---|---|"]
    for gain, kind, severity, name, _ in worst:
        rows.append(f"| `{kind}` | {severity} | `{name}` | {scores[name] + gain:.2f} | {scores[name]:.2f} |")
    text = (
        f"Of {tried} degraded pictures ({len(names)} types, {len(photos)} photographs of `examples/photos`, severities "
        f"{SEVERITIES[0]} and {SEVERITIES[1]}), {len(wrong)} score no lower than the photograph they were made of; the "
        "worst of each type, found by `tools/write_failures.py`:\n\n"
    )
    shown = [(photos[name], scores[name], worse, gain, kind) for gain, kind, _, name, worse in worst[:SHOWN]]
    if shown:
        draw(shown)
        text = "![photographs and degraded versions that score no lower](docs/failures.jpg)\n\n" + text
    write_blocks(ROOT / "MODEL_CARD.md", {"failures": text + "\n".join(rows)})


def good_photos() -> list[pathlib.Path]:
    """The photographs without the degraded copies."""
    return sorted(path for path in PHOTOS.iterdir() if "_" not in path.name and path.suffix in (".jpg", ".webp"))


def draw(shown) -> None:
    """Centres of the photographs in the first row, of their degraded versions below, with scores."""
    sheet = Image.new("RGB", (len(shown) * SIDE, 2 * (SIDE + 28)), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column, (photo, score, worse, gain, kind) in enumerate(shown):
        cells = ((photo, f"{score:.1f}"), (worse, f"{kind}: {score + gain:.1f}"))
        for row, (pixels, text) in enumerate(cells):
            height, width = pixels.shape[:2]
            top, left = max(height - CUT, 0) // 2, max(width - CUT, 0) // 2
            small = Image.fromarray(pixels[top : top + CUT, left : left + CUT]).resize((SIDE - 6, SIDE - 6))
            x, y = column * SIDE + 3, row * (SIDE + 28) + 3
            sheet.paste(small, (x, y))
            canvas.text((x + SIDE // 2, y + SIDE + 6), text, fill="black", font=font, anchor="mm")
    sheet.save(DOCS / "failures.jpg", quality=88)


if __name__ == "__main__":
    main()
