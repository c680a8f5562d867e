"""Write the reference distribution of weights, which `driqa score --percentile` compares with.

    driqa score PHOTOS -o reference.csv --resume
    python -m tools.write_reference reference.csv --photos "..." --licence "..." [--date 2026-11-29] [--weights lite]

The first command scores the photos and may be interrupted and repeated. The second stores the quantiles of the scores
beside the weights, with what the photos are. The images themselves are not needed and not kept.
"""

import argparse

from driqa_jax.checkpoints.weights import bundled_files, file_sha256
from driqa_jax.errors import UserError
from driqa_jax.reports.reference import from_scores, reference_path


def main() -> None:
    """Write `NAME.reference.json` beside the weights."""
    parser = argparse.ArgumentParser(description="Store a reference distribution beside weights.")
    parser.add_argument("scores", help="file of `driqa score -o`")
    parser.add_argument(
        "--photos", required=True, help="what the photos are, how they were drawn, what to keep in mind"
    )
    parser.add_argument("--licence", required=True, help="the terms of the photos")
    parser.add_argument("--date", default="", help="of the scoring (default: that of the file)")
    parser.add_argument("--weights", default="lite", help="bundled name or .safetensors file (default: lite)")
    args = parser.parse_args()
    weights = bundled_files().get(args.weights, args.weights)
    reference = from_scores(args.scores, args.photos, args.licence, args.date)
    if reference.sha256 != file_sha256(weights):
        raise UserError(f"{args.scores}: its scores were made with other weights than {weights}")
    reference.save(reference_path(weights))


if __name__ == "__main__":
    main()
