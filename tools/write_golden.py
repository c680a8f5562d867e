"""Rewrite tests/golden_scores.json, the scores of the example photographs with the bundled weights.

    python -m tools.write_golden

Run it when the bundled weights change, and look at the difference before you commit it.
"""

import json
import pathlib
import sys

import driqa_jax as driqa
from driqa_jax.inference.effort import EFFORTS
from driqa_jax.reports.inputs import list_pictures

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "golden_scores.json"


def main() -> int:
    """Write the file; returns 0."""
    photos = [pathlib.Path(path) for path in list_pictures([str(ROOT / "examples" / "photos")])]
    scores = {}
    for effort in EFFORTS:
        scorer = driqa.load(runtime="jax", effort=effort)
        scores[effort] = dict(zip([photo.name for photo in photos], scorer(photos).tolist(), strict=True))
    FILE.write_text(json.dumps({"sha256": scorer.sha256, "scores": scores}, indent=1) + "\n")
    print(f"{FILE}: {len(photos)} photographs, weights {scorer.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
