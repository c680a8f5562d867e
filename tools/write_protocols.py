"""Write results of protocols, probes and examinations into docs/PROTOCOL_RESULTS.md, and their figures into docs/.

python -m tools.write_protocols ablations=protocol_ablations subsets=protocol_subsets probes=probes \
    restored=restored order=order orders=orders cross=cross

Each NAME=FOLDER is the output of the command above that block. Tables (.md) become the block; `runs.csv` and reports
are copied to docs/results/NAME; figures are saved with fewer colors.
"""

import csv
import json
import pathlib
import shutil
import sys

import numpy as np
from PIL import Image

from driqa_jax.evaluation.bootstrap import estimate
from driqa_jax.evaluation.order import right_against, right_pairs
from driqa_jax.evaluation.tables import shown
from driqa_jax.protocol.plan import slug
from tools.pages import DOCS, RESULTS, save_palette, write_blocks

# By block: its tables in order, files to copy, figures.
PARTS = {
    "ablations": (["table.md"], ["table.csv", "runs.csv"], []),
    "subsets": (["table.md"], ["table.csv", "runs.csv"], []),
    "probes": (["probes.md"], ["probes.json"], []),
    "restored": (["agreement.md", "punishment.md"], ["agreement.csv", "punishment.csv"], ["curves.png"]),
    "order": (["order.md"], [], ["order.png"]),
    "orders": ([], [], []),  # one examination folder per row
    "cross": (["table.md"], ["table.csv", "runs.csv"], []),
}

ORDERS = ("full", "backbone and head")


def main(*given: str) -> None:
    """Write the given blocks; other blocks do not change."""
    blocks = {}
    for name, folder in (each.split("=", 1) for each in given):
        folder, (tables, kept, drawn) = pathlib.Path(folder), PARTS[name]
        block = [(folder / table).read_text().strip() for table in tables]
        if name == "subsets":  # its splits are different data, not repetitions
            block.insert(0, by_split(folder / "runs.csv"))
        if name == "orders":
            block.append(compare(folder))
        for file in kept:
            target = RESULTS / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / file, target)
        for file in drawn:
            save_palette(Image.open(folder / file), DOCS / f"{name}_{file}")
            block.append(f"![{name}]({name}_{file})")
        blocks[name] = "\n\n".join(block)
    write_blocks(DOCS / "PROTOCOL_RESULTS.md", blocks)


def compare(folder: pathlib.Path) -> str:
    """The order results of examinations on the same photographs, and paired differences to the first."""
    result = {name: json.loads((folder / slug(name) / "order.json").read_text()) for name in ORDERS}
    if len({tuple(each["photos"]) for each in result.values()}) > 1:
        raise SystemExit(f"{folder}: the examinations used different photographs")
    scores = {name: {key: np.array(x) for key, x in each["scores"].items()} for name, each in result.items()}
    shares = {
        name: (right_pairs(x["levels"]).mean(0), right_against(x["pristine"], x["restored"]).mean(0))
        for name, x in scores.items()
    }
    first = next(iter(shares))
    for name in list(shares)[1:]:
        shares[f"{name} - {first}"] = tuple(x - y for x, y in zip(shares[name], shares[first], strict=True))
    rows = [f"| {name} | {' | '.join(shown(estimate(x)) for x in pair)} |" for name, pair in shares.items()]
    return "\n".join(["| scores | order | pristine over badly restored |", "|---|---|---|", *rows])


def by_split(file: pathlib.Path) -> str:
    """A table of SRCC by row and split."""
    with file.open() as lines:
        runs = {(run["row"], run["split"]): run["srcc"] for run in csv.DictReader(lines)}
    rows, splits = (list(dict.fromkeys(keys)) for keys in zip(*runs, strict=True))
    table = [f"| SRCC | {' | '.join(splits)} |", "|---|" + "---|" * len(splits)]
    table += [f"| {row} | {' | '.join(f'{float(runs[row, split]):.3f}' for split in splits)} |" for row in rows]
    return "\n".join(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
