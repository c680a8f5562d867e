"""Write docs/results/cull.json and the block of docs/CULL.md from a study of `experiments.cull`.

python -m tools.write_cull DIR/summary.json
"""

import json
import pathlib
import sys

from driqa_jax.io import write_json
from experiments.cull.summary import to_table
from tools.pages import DOCS, write_blocks


def main(path: str) -> None:
    """Copy the summary, write the block."""
    summary = json.loads(pathlib.Path(path).read_text())
    write_json(DOCS / "results" / "cull.json", summary)
    made_with = f"{summary['photos']} photos, model `{summary['model']}`, seed {summary['seed']}"
    text = (
        f"`python -m experiments.cull` on {made_with}. Brackets hold the 95 % interval of a bootstrap over bursts, or "
        "over photos where n counts photos:\n\n"
    )
    write_blocks(DOCS / "CULL.md", {"cull": text + to_table(summary["shares"])})


if __name__ == "__main__":
    main(*sys.argv[1:])
