"""Write the short model card of the bundled weights, which `driqa info --model lite` prints.

    python -m tools.write_card

It reads docs/results/biq2021_test.json, which `driqa evaluate` wrote, and is also part of `tools.write_results`.
"""

import json

from driqa_jax.checkpoints.weights import bundled, file_sha256
from driqa_jax.evaluation.report import Part, Report
from driqa_jax.io import write_json
from driqa_jax.reports.model_card import card_path
from tools.pages import RESULTS

DATA = [
    "ImageNet, through the weights of EfficientNet-Lite0 (Apache-2.0)",
    "BIQ2021, official training split without the validation fold: 9,038 images with MOS (freely available for use and "
    "benchmarking)",
]
NOTES = {
    "all": "all three sources pooled, which overstates agreement on photos from elsewhere",
    "novel": "images that show no scene of the training split",
    "ss01": "photos of a camera archive",
    "ss02": "photos taken for the set",
    "ss03": "photographs from the web",
}
FAILURES = [
    "Mild sharpening, halos, ringing and chroma subsampling of very good photos can raise the score by a few points.",
    "Heavy JPEG compression of a dark photo can go unnoticed.",
    "Damaged images (truncated data, blocks of wrong color, combing) lose few points or none.",
    "Within BIQ2021's ss02 the scores say little.",
]
NOT_FOR = [
    "judging people, or what an image shows",
    "ranking images whose scores differ by less than the uncertainty",
    "the only loss or judge of a restoration model",
    "screenshots, drawings, documents, medical or scientific images",
]


def main() -> None:
    """Write the card."""
    report = Report.from_dict(json.loads((RESULTS / "biq2021_test.json").read_text()))
    weights = bundled("lite")
    results = [_row(name, {"all": report.whole, **report.parts}[name]) for name in NOTES]
    card = {
        "sha256": file_sha256(weights),
        "data": DATA,
        "set": "BIQ2021, official test split",
        "results": results,
        "coverage": {"level": report.coverage["level"], "held": report.coverage["held"]},
        "failures": FAILURES,
        "not_for": NOT_FOR,
    }
    write_json(card_path(weights), card)


def _row(name: str, part: Part) -> dict:
    figures = {key: [part.metrics[key], *(part.intervals[key] or ())] for key in ("srcc", "plcc")}
    rounded = {key: [round(value, 3) for value in values] for key, values in figures.items()}
    return {"images": name, "note": NOTES[name], "n": part.n, **rounded}


if __name__ == "__main__":
    main()
