"""Draw a sheet of photographs with what the bundled model says of them, to be judged by eye.

    python -m tools.findings_sheet BIQ2021/Images "BIQ2021/Test (Images and MOS).csv" -o sheet

It writes sheet.png and sheet.csv: 20 photographs each of ss01 and ss03, drawn with seed 0. The column `verdict` is left
empty. The photographs are not ours to publish, so docs/results/findings_by_eye.csv holds the judged table alone.
"""

import argparse
import csv
import pathlib

import numpy as np
from PIL import Image, ImageDraw

import driqa_jax
from driqa_jax.data.decode import decode

SOURCES, EACH, COLUMNS = ("ss01", "ss03"), 20, 8
SIDE, HEAD = 300, 45  # px of a shown photograph and of the text above it


def main() -> None:
    """Explain the photographs, write the sheet and the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.findings_sheet", description=__doc__.split("\n")[0])
    parser.add_argument("images", type=pathlib.Path, help="folder of the photographs")
    parser.add_argument("labels", type=pathlib.Path, help="CSV of names and scores, with a head")
    parser.add_argument("-o", "--output", default="sheet", help="name of both files, without an ending")
    args = parser.parse_args()
    with args.labels.open() as file:
        mos = {name.strip(): float(value) for name, value, *_ in list(csv.reader(file))[1:]}
    rng, chosen = np.random.default_rng(0), []
    for source in SOURCES:
        chosen += rng.choice(sorted(name for name in mos if name.startswith(source)), EACH, replace=False).tolist()
    scorer, shown, rows = driqa_jax.load(), [], []
    for name in chosen:
        found = scorer.explain(args.images / name, restore=False)
        lines = [f"{fault.words} ({fault.details})" for fault in found.faults()] or ["nothing"]
        shown.append(_panel(decode(args.images / name), f"{name} {found.score:.0f}, MOS {100 * mos[name]:.0f}", lines))
        rows.append([name, f"{found.score:.1f}", f"{100 * mos[name]:.1f}", "; ".join(lines), ""])
    strips = [np.concatenate(shown[start : start + COLUMNS], axis=1) for start in range(0, len(shown), COLUMNS)]
    Image.fromarray(np.concatenate(strips)).save(f"{args.output}.png")
    with open(f"{args.output}.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "score", "mos", "findings", "verdict"], *rows])


def _panel(photo: np.ndarray, title: str, lines: list[str]) -> np.ndarray:
    panel = Image.new("RGB", (SIDE, SIDE + HEAD))
    panel.paste(Image.fromarray(photo).resize((SIDE, SIDE)), (0, HEAD))
    draw = ImageDraw.Draw(panel)
    for row, text in enumerate([title, *lines]):
        draw.text((3, 1 + 11 * row), text[:48], fill="yellow" if row else "white")
    return np.asarray(panel)


if __name__ == "__main__":
    main()
