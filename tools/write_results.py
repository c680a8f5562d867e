"""Write measurements into README.md and MODEL_CARD.md.

    driqa evaluate --data BIQ2021/Images/rated.csv --split train/val -o docs/results/biq2021_val.json
    driqa evaluate --data biq2021 --data-dir BIQ2021/tfds --split test -o docs/results/biq2021_test.json
    driqa score examples/photos -o docs/results/examples.csv
    python -m benchmarks transfer ... -o docs/results/transfer.md
    python -m benchmarks score --peers-python PEERS/bin/python --peer-photos 6 --json docs/results/bench_score.json
    python -m tools.write_results [runs/biq2021_lite runs/biq2021_lite_more]

`launch/rebuild_lite.sh` writes rated.csv. Also draws docs/examples.jpg (the examples with their scores), the coverage
of the intervals and the curves of the named trainings, and writes the short card of `driqa info --model lite`. The
blocks of `lite-0.5` in MODEL_CARD.md come from docs/results/lite-0.5, in which nothing changes any more.
"""

import csv
import json
import pathlib
import sys

from PIL import Image, ImageDraw, ImageFont

from driqa_jax.checkpoints.weights import bundled_files, file_sha256, load_weights
from driqa_jax.errors import UserError
from driqa_jax.evaluation.figures import draw_coverage, save_figure
from driqa_jax.evaluation.report import HEADS, METRICS, Report, coverage_line
from driqa_jax.evaluation.tables import shown
from tools import write_card
from tools.pages import DOCS, RESULTS, ROOT, save_curves, write_blocks

SIDE = 224
TRANSFER_TEXT = """\
Agreement with people (SRCC) on images that no training of the bundled model saw, as `python -m benchmarks transfer`
printed it. LIVE-C: the 583 photos by which models were chosen; AVT-AI: generated images. The
human scale ranks 25 degradations at 5 levels on held-back photos by KADID-10k's mean human scores. Brackets hold
95 % over images, of the human scale over photos.

"""
RESULTS_TEXT = """\
[Known faults](docs/results/where.md): how often maps, names and scores show a fault whose kind and place are known.
[Stability](docs/results/stability.md): how far the score moves where people see nothing.

The bundled `lite` on BIQ2021's official test split, as `driqa evaluate` printed it. Brackets hold the 95 % interval of
a bootstrap over images. "novel" images show no scene of the training split. ss01, ss02 and ss03 are the set's sources;
the scores of ss02 were not in the training data. They differ in level, so the pooled figure overstates agreement on
photos from elsewhere.

"""


def main(*runs: str) -> None:
    """Write every block of every page; draw the curves of `runs`."""
    for run in runs:
        save_curves(run)
    reports = reports_of("lite", RESULTS)
    with (RESULTS / "examples.csv").open() as file:
        scores = {pathlib.Path(row["path"]).name: float(row["score"]) for row in csv.DictReader(file)}
    draw_examples(scores)
    blocks = {
        "examples": "![The example photographs and their scores](docs/examples.jpg)\n\n" + examples_table(scores),
        "results": TRANSFER_TEXT
        + (RESULTS / "transfer.md").read_text()
        + "\n"
        + RESULTS_TEXT
        + short_table(reports["test"]),
        **model_blocks("lite", reports, "coverage.png"),
        "bench_score": bench_text(json.loads((RESULTS / "bench_score.json").read_text())),
    }
    for page in ("README.md", "MODEL_CARD.md", "docs/SCORE.md"):
        write_blocks(ROOT / page, blocks)
    older = model_blocks("lite-0.5", reports_of("lite-0.5", RESULTS / "lite-0.5"), "coverage-0.5.png")
    write_blocks(ROOT / "MODEL_CARD.md", {f"lite-0.5 {name}": text for name, text in older.items()})
    write_card.main()


def reports_of(model: str, folder: pathlib.Path) -> dict[str, Report]:
    """The reports "test" and "val" of a bundled model. Raises UserError if one was made with other weights."""
    values = {name: json.loads((folder / f"biq2021_{name}.json").read_text()) for name in ("test", "val")}
    for name, value in values.items():
        if value["provenance"]["sha256"] != file_sha256(bundled_files()[model]):
            raise UserError(
                f"{folder}/biq2021_{name}.json: was measured with other weights than {model}; measure again"
            )
    return {name: Report.from_dict(value) for name, value in values.items()}


def model_blocks(model: str, reports: dict[str, Report], figure: str) -> dict[str, str]:
    """The blocks of a model in MODEL_CARD.md; draws `figure` into docs/."""
    return {
        "validation": metrics_table(reports["val"]),
        "test": metrics_table(reports["test"]),
        "coverage": coverage_text(reports, figure),
        "weights": weights_text(model),
    }


def metrics_table(report: Report) -> str:
    """A Markdown table: the whole split, then each part; intervals in brackets."""
    rows = ["| pictures | n | " + " | ".join(HEADS.values()) + " |"]
    rows.append("|---|---|" + "---|" * len(METRICS))
    for name, part in {"all": report.whole, **report.parts}.items():
        rows.append(f"| {name} | {part.n} | " + " | ".join(shown(part.cell(metric)) for metric in METRICS) + " |")
    return "\n".join(rows)


def short_table(report: Report) -> str:
    """A Markdown table of SRCC and PLCC for the whole split, its novel images and its sources."""
    rows = ["| images | n | SRCC | PLCC |", "|---|---|---|---|"]
    for name, part in {"all": report.whole, **report.parts}.items():
        if ", " not in name:
            rows.append(f"| {name} | {part.n} | {shown(part.cell('srcc'))} | {shown(part.cell('plcc'))} |")
    return "\n".join(rows)


def coverage_text(reports: dict[str, Report], file: str) -> str:
    """Coverage in words; also draws the figure `file` of docs/."""
    figure = draw_coverage(reports["test"].coverage, "BIQ2021, official test split")
    save_figure(figure, DOCS / file)
    test, val = (coverage_line(reports[name].coverage) for name in ("test", "val"))
    drawn = f"![coverage](docs/{file})"
    return f"On the official test split {test}. (On validation, where they were fitted, {val}.)\n\n{drawn}"


def examples_table(scores: dict[str, float]) -> str:
    """Each photograph with its degraded copy."""
    rows = ["| photo | score | its faulty twin | score |", "|---|---|---|---|"]
    for good, faulty in pairs(scores):
        rows.append(f"| `{good}` | {scores[good]:.2f} | `{faulty}` | {scores[faulty]:.2f} |")
    return "\n".join(rows)


def pairs(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Names (photograph, degraded copy); the copy's name starts with the photograph's stem."""
    good = sorted(name for name in scores if "_" not in name)
    return [(name, next(n for n in scores if n.startswith(name.split(".")[0] + "_"))) for name in good]


def weights_text(model: str) -> str:
    """Facts from the header of the weights file."""
    file = bundled_files()[model]
    _, metadata = load_weights(file)
    provenance = metadata["provenance"]
    validation = provenance["validation"]
    if "step" in provenance:
        training = (
            f"- the last training: {provenance['step']} steps, {provenance['examples']:,} pictures seen, from "
            f"`{provenance['run']['init']}`"
        )
    else:
        kinds = ", ".join(f"{count:,} `{kind}`" for kind, count in provenance["examples"].items())
        taught = f" and {provenance['taught']['images']:,} images scored by a teacher" if "taught" in provenance else ""
        tuned = sum(provenance["tuning"].get("examples", provenance["examples"]).values())
        training = (
            f"- the level learned from {provenance['images']:,} rated photos{taught}, the drops from examples: {kinds}"
            f", the late layers of the degradation encoder from {tuned:,} others"
        )
    return "\n".join(
        [
            f"- file: `driqa_jax/weights/{model}.safetensors`, {file.stat().st_size:,} bytes, float16",
            f"- sha256: `{file_sha256(file)}`",
            f"- licence in its header: {metadata['licence']}",
            training,
            f"- held out, {validation['n']} pictures, before calibration: SRCC {validation['srcc']:.3f}, "
            f"PLCC {validation['plcc']:.3f}, mean absolute error {validation['mae']:.3f} MOS "
            f"({validation['mae_calibrated']:.3f} after)",
        ]
    )


def bench_text(result: dict) -> str:
    """Speed and memory, compared with other packages."""
    start, large, machine = result["start"], result["large"], result["machine"]
    compiled = " with compilation," if machine.get("runtime", "jax") == "jax" else ""
    scored = f"`{machine['model']}` with {machine['runtime']}, " if "model" in machine else ""
    rows = ["| 512x384 photographs | images/s | peak MiB | |", "|---|---|---|---|"]
    for name, row in {f"`driqa score --effort {k}`": v for k, v in result["small"].items()}.items():
        rows.append(f"| {name} | {row['per_second']:.1f} | {row['peak_mib']:.0f} | |")
    for name, row in result["peers"].items():
        if "left_out" not in row:
            cells = f"{row['per_second']:.1f} | {row['peak_mib']:.0f} | {row['used']}, {row['photos']} photographs"
            rows.append(f"| {name} | {cells} |")
    rest = large["12 megapixels"]["ms"] - large["decoding 12"]["ms"]
    return "\n".join(
        [
            f"`python -m benchmarks score`, one run on {machine['cores']} cores ({scored}{machine['device']}, "
            f"jax {machine['jax']}; load average {machine['load_before']} when it began), "
            f"{result['photos']} crops of the example photographs; the deep peers take one image a call, as "
            "IQA-PyTorch runs them:",
            "",
            *rows,
            "",
            f"A photo of 12 megapixels costs {rest / large['1 megapixel']['ms']:.2f} times one of 1 megapixel, "
            f"decoding apart. `driqa score one.jpg`: {start['first']:.1f} s the first time ever,{compiled} "
            f"{start['later']:.1f} s later.",
        ]
    )


def draw_examples(scores: dict[str, float]) -> None:
    """Photographs in the first row, degraded copies below, with scores."""
    columns = pairs(scores)
    sheet = Image.new("RGB", (len(columns) * SIDE, 2 * (SIDE + 28)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=18)
    for column, pair in enumerate(columns):
        for row, name in enumerate(pair):
            with Image.open(ROOT / "examples" / "photos" / name) as photo:
                small = photo.convert("RGB").resize((SIDE - 6, SIDE - 6), Image.Resampling.LANCZOS)
            x, y = column * SIDE + 3, row * (SIDE + 28) + 3
            sheet.paste(small, (x, y))
            draw.text((x + SIDE // 2, y + SIDE + 8), f"{scores[name]:.1f}", fill="black", font=font, anchor="mm")
    sheet.save(DOCS / "examples.jpg", quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:])
