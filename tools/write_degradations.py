"""Write measurements into docs/DEGRADATIONS.md, and its figures into docs/.

python -m benchmarks degradations --config configs/pretrain_lite.py --json docs/results/bench_degradations.json
driqa examine --model runs/restore_lite_more --data biq2021 --data-dir BIQ2021/tfds --split train/val \\
        --min-mos 0.8 --halve --pairs PolyU/CroppedImages -o exam
driqa degrade sheet examples/photos/flowers.webp -o sheet.png
python -m tools.write_degradations sheet.png exam runs/pretrain_lite runs/restore_lite runs/restore_lite_more

With the sheet alone, only docs/degradations.jpg is written: python -m tools.write_degradations sheet.png
"""

import csv
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence

from PIL import Image

from driqa_jax.io import write_json
from tools.pages import DOCS, RESULTS, save_curves, save_palette, write_blocks


def main(sheet: str, exam: str | None = None, *runs: str) -> None:
    """Shrink `sheet`; with `exam`, copy its examination, draw the curves of `runs`, write the blocks."""
    with Image.open(sheet) as image:
        small = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        small.save(DOCS / "degradations.jpg", quality=70)
    if exam:
        write_examination(pathlib.Path(exam), runs)


def write_examination(exam: pathlib.Path, runs: Sequence[str]) -> None:
    """Copy an examination, draw the curves of `runs`, write the blocks."""
    result = json.loads((exam / "examination.json").read_text())
    # Only the name of the model, not its folder on this machine.
    result["provenance"]["model"] = pathlib.Path(result["provenance"]["model"]).name
    write_json(RESULTS / "pretrain_lite_examination.json", result)
    shutil.copy(exam / "restoration.csv", RESULTS / "pretrain_lite_restoration.csv")
    for name in ("confusion", "restoration"):
        save_palette(Image.open(exam / f"{name}.png"), DOCS / f"pretrain_lite_{name}.png")
    for run in runs:
        save_curves(run)
    bench = json.loads((RESULTS / "bench_degradations.json").read_text())
    blocks = {
        "examination": examination_text(result, exam / "restoration.csv"),
        "bench_degradations": bench_text(bench),
    }
    write_blocks(DOCS / "DEGRADATIONS.md", blocks)


def examination_text(result: dict, restoration: pathlib.Path) -> str:
    """The summary of an examination, and results by type at the middle level."""
    low, high = result["psnr_true_over_shuffled_d_95"]
    given = result["provenance"]
    rows = [
        ("macro top-1 naming, severity >= .5, 21 classes", f"{result['naming_top1']:.3f}"),
        ("macro top-3", f"{result['naming_top3']:.3f}"),
        ("clean called clean", f"{result['clean_called_clean']:.3f}"),
        ("severity error, mean absolute", f"{result['severity_error']:.3f}"),
        ("same chain retrieved, of 16", f"{result['retrieval']:.3f}"),
        ("PSNR gained on noise, middle level", f"{result['psnr_gain_noise']:.2f} dB"),
        ("on blur", f"{result['psnr_gain_blur']:.2f} dB"),
        ("on JPEG", f"{result['psnr_gain_jpeg']:.2f} dB"),
        ("PSNR of restored clean photographs", f"{result['psnr_of_restored_clean']:.1f} dB"),
        (
            "PSNR, true over shuffled `d`",
            f"{result['psnr_true_over_shuffled_d']:.2f} dB, 95 % interval {low:.2f} to {high:.2f}",
        ),
    ]
    if real := result.get("real_noise"):
        rows.append(
            (
                f"PolyU, {real['pairs']} pairs of real noise: PSNR before, after",
                f"{real['psnr_before']:.2f}, {real['psnr_after']:.2f} dB; a noise named in "
                f"{100 * real['most_probable_is_a_noise']:.0f} %",
            )
        )
    text = (
        f"{result['photographs']} photographs of {given['data']} (MOS >= {given['min_mos']:g}, halved), crops of "
        f"{given['crop']}, seed {given['seed']}, step {given['step']} of the training.\n\n| measure | |\n|---|---|\n"
    )
    text += "\n".join(f"| {name} | {value} |" for name, value in rows)
    with restoration.open() as file:
        middle = [row for row in csv.DictReader(file) if row["level"] == "3"]
    text += "\n\nAt the middle level, by type ([all levels](results/pretrain_lite_restoration.csv)):\n\n"
    text += "| type | PSNR before | after | SSIM before | after |\n|---|---|---|---|---|\n"
    measures = ("psnr_before", "psnr_after", "ssim_before", "ssim_after")
    for row in middle:
        psnr_before, psnr_after, *ssims = (float(row[name]) for name in measures)
        shown = [f"{psnr_before:.2f}", f"{psnr_after:.2f}", *(f"{value:.3f}" for value in ssims)]
        text += f"| `{row['degradation']}` | " + " | ".join(shown) + " |\n"
    return text.rstrip()


def bench_text(result: dict) -> str:
    """The table of the benchmark; older results also have a host pipeline."""
    host = result.get("host_library")
    pipeline = f"; the host pipeline with {host} on {result['cores']} threads" if host else ""
    heads = ["operation", "device", "host", "device/host"] if host else ["operation", "images/s"]
    lines = [
        f"`python -m benchmarks degradations`: {result['device']}, {result['cores']} cores, jax {result['jax']}, "
        f"{result['side']}x{result['side']}, batch {result['batch']}, median of {result['repeats']}{pipeline}. "
        "Images a second:\n",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
    ]
    rows = {f"`{name}`": rates for name, rates in result["operations"].items()}
    rows[f"recipe `{result['recipe']}`, all types"] = {"images_per_second": result["recipe_images_per_second"]}
    if host:
        rows["the same, the host's types"] = result["shared_types"]
    for name, rates in rows.items():
        device, other = rates["images_per_second"], rates.get("host_images_per_second")
        cells = [f"{device:.0f}", f"{other:.0f}" if other else "-", f"{device / other:.1f}" if other else "-"]
        lines.append(f"| {' | '.join([name, *cells[: len(heads) - 1]])} |")
    memory = result["peak_rss_mib"]
    lines.append(
        f"\nPeak resident set {memory['after_recipe']} MiB with the recipe compiled ({memory['before']} before)."
    )
    if share := result.get("pretraining"):
        lines.append(
            f"Of the pretraining step of `configs/pretrain_lite.py` ({1e3 * share['step_seconds']:.0f} ms on one "
            f"device) the recipe takes {1e3 * share['recipe_seconds']:.0f} ms, {100 * share['share']:.1f} %."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
