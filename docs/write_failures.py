"""Where the bundled model is wrong, looked for on the examples: docs/failures.jpg and a block of MODEL_CARD.md.

python docs/write_failures.py

Every photograph is degraded by each type that people find worse the more of it there is, and by what restorers leave
where they do too much, at two severities. Of all that scores no lower than the photograph itself, the worst of each
type is told.
"""

import pathlib

import jax
import numpy as np
from blocks import write_blocks
from PIL import Image, ImageDraw, ImageFont

import driqa_jax
from driqa_jax.degradations import DEGRADATIONS, apply
from driqa_jax.degradations.recipes import BADLY_RESTORED

DOCS = pathlib.Path(__file__).resolve().parent
PHOTOS = DOCS.parent / "examples" / "photos"
SEVERITIES = (0.5, 1.0)
SIDE, CUT, SHOWN = 240, 320, 6  # of a shown picture; of the middle that it shows; how many


def main() -> None:
    """Look, draw, write."""
    scorer = driqa_jax.load()
    photos = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in good_ones()}
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
    wrong.sort(key=lambda found: -found[0])
    worst = list({found[1]: found for found in reversed(wrong)}.values())[::-1]
    worst.sort(key=lambda found: -found[0])
    rows = ["| type | severity | photo | score | of the photo itself |", "|---|---|---|---|---|"]
    for gain, kind, severity, name, _ in worst:
        rows.append(f"| `{kind}` | {severity} | `{name}` | {scores[name] + gain:.2f} | {scores[name]:.2f} |")
    said = (
        f"Of {tried} degraded pictures ({len(names)} types, {len(photos)} photographs of `examples/photos`, severities "
        f"{SEVERITIES[0]} and {SEVERITIES[1]}), {len(wrong)} score no lower than the photograph they were made of; the "
        "worst of each type, as `docs/write_failures.py` found it:\n\n"
    )
    shown = [(photos[name], scores[name], worse, gain, kind) for gain, kind, _, name, worse in worst[:SHOWN]]
    if shown:
        draw(shown)
        said = "![photographs and degraded versions that score no lower](docs/failures.jpg)\n\n" + said
    write_blocks(DOCS.parent / "MODEL_CARD.md", {"failures": said + "\n".join(rows)})


def good_ones() -> list[pathlib.Path]:
    """The photographs that are not the faulty twin of another."""
    return sorted(path for path in PHOTOS.iterdir() if "_" not in path.name and path.suffix in (".jpg", ".webp"))


def draw(shown) -> None:
    """Middles of the photographs above, of what was made of them below, each with its score."""
    sheet = Image.new("RGB", (len(shown) * SIDE, 2 * (SIDE + 28)), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column, (photo, score, worse, gain, kind) in enumerate(shown):
        told = ((photo, f"{score:.1f}"), (worse, f"{kind}: {score + gain:.1f}"))
        for row, (pixels, text) in enumerate(told):
            height, width = pixels.shape[:2]
            top, left = max(height - CUT, 0) // 2, max(width - CUT, 0) // 2
            small = Image.fromarray(pixels[top : top + CUT, left : left + CUT]).resize((SIDE - 6, SIDE - 6))
            x, y = column * SIDE + 3, row * (SIDE + 28) + 3
            sheet.paste(small, (x, y))
            canvas.text((x + SIDE // 2, y + SIDE + 6), text, fill="black", font=font, anchor="mm")
    sheet.save(DOCS / "failures.jpg", quality=88)


if __name__ == "__main__":
    main()
