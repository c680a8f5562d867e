"""Write the short model card of the bundled weights, which `driqa info --model lite` prints.

    python -m tools.write_card

It reads docs/results/biq2021_test.json, which `driqa evaluate` wrote, and is also part of `tools.write_results`.
"""

import json

from driqa_jax.checkpoints.weights import bundled, file_sha256
from driqa_jax.errors import UserError
from driqa_jax.evaluation.report import Part, Report
from driqa_jax.io import write_json
from driqa_jax.reports.model_card import card_path
from tools.pages import RESULTS

DATA = [
    "ImageNet, through the weights of EfficientNet-Lite0 (Apache-2.0)",
    "BIQ2021, subsets ss01 and ss03 of the official training split without a held-out tenth: images with MOS (freely "
    "available for use and benchmarking)",
    "BIQ2021, subset ss02: images without their scores, which a teacher scored; half of the teacher is DINOv2 ViT-S/14 "
    "(Apache-2.0), of which nothing is in the model",
    "pristine photographs: CLIC 2025 validation and test (Unsplash licence), hoojaoh/data-stunning (CC BY-SA, GFDL), "
    "elementary/wallpapers, eight (CC0 or Unsplash licence), gb82 image set with the originals of the example photos "
    "(CC0), fedoradesign/backgrounds, 22 (CC0, CC BY, CC BY-SA, Free Art), ubuntu-mate-artwork, eight (CC BY-SA), "
    "plasma-workspace-wallpapers, six (LGPL 3), mate-backgrounds, five (GPL 2 or later), solus-project/artwork, one "
    "(CC BY 3.0), Urban100 and Sun-Hays80 of SelfExSR (research images from Flickr and SUN)",
    "names of the faults in 9,166 photos of BIQ2021, by a general vision-language model; no person checked them",
    "KADID-10k: human means by type and level, of its published labels; no images",
    "the degradation encoder of lite-0.5, which learned from BIQ2021, as a start",
]
NOTES = {
    "all": "all three sources pooled, which overstates agreement on photos from elsewhere",
    "novel": "images that show no scene of the training split",
    "ss01": "photos of a camera archive",
    "ss02": "photos taken for the set; their scores are not in the training data",
    "ss03": "photographs from the web",
}
FAILURES = [
    "Pale colors, casts, contrast and exposure count half, because they may be intended.",
    "The drops of types that KADID-10k does not have were set by eye, not measured.",
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
    file, weights = RESULTS / "biq2021_test.json", bundled("lite")
    values = json.loads(file.read_text())
    if values["provenance"]["sha256"] != file_sha256(weights):
        raise UserError(f"{file}: was measured with other weights than {weights.name}; measure again")
    report = Report.from_dict(values)
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
