"""Write docs/results/own_ratings.json and the block of docs/FINETUNE.md from `experiments.own_ratings`.

python -m tools.write_own_ratings curves.json
"""

import json
import pathlib
import sys

from driqa_jax.io import write_json
from experiments.own_ratings.__main__ import to_table
from tools.pages import DOCS, write_blocks


def main(path: str) -> None:
    """Copy the curves, write the block."""
    values = json.loads(pathlib.Path(path).read_text())
    write_json(DOCS / "results" / "own_ratings.json", values)
    whole = values["cross_validated"]
    before, after, gain = (
        f"{whole[key]['value']:.3f} [{whole[key]['interval'][0]:.3f}, {whole[key]['interval'][1]:.3f}]"
        for key in ("before", "after", "difference")
    )
    seconds = values["seconds"]
    text = (
        f"`python -m experiments.own_ratings {values['ratings']}` on {values['images']} rated photos, "
        f"{values['draws']} draws, seed {values['seed']}. The photos that were not drawn show the mean gain in SRCC; "
        f'parentheses hold the worst draw. `driqa fit` uses the row "residual".\n\n{to_table(values)}\n\n'
        f"All {values['images']} ratings, cross-validated: SRCC {before} before, {after} after, gain {gain}. Reading "
        f"the photos took {seconds['read']:.0f} s, the cross-validation {seconds['cross_validation']:.0f} s."
    )
    write_blocks(DOCS / "FINETUNE.md", {"own_ratings": text})


if __name__ == "__main__":
    main(*sys.argv[1:])
