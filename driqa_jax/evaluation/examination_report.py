"""An examination as a summary, a CSV and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from driqa_jax.degradations import DEGRADATIONS
from driqa_jax.evaluation.bootstrap import estimate
from driqa_jax.evaluation.examination import Examiner, Naming, Restoration
from driqa_jax.evaluation.figures import blank_figure
from driqa_jax.evaluation.full_reference import psnr, ssim
from driqa_jax.io import to_csv

MIDDLE = 2  # the third of five levels
NOISES = frozenset(entry.name for entry in DEGRADATIONS if entry.group == "noise" or entry.name == "low_light")
KINDS = {
    "noise": ("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
    "blur": ("gaussian_blur", "lens_blur", "motion_blur"),
    "jpeg": ("jpeg",),
}


def summary(naming: Naming, restoration: Restoration, retrieval: float) -> dict[str, Any]:
    """The main results, rounded; PSNR gains in dB are means over photographs."""
    gain = restoration.psnr_after - restoration.psnr_before
    own = restoration.psnr_after - restoration.psnr_shuffled
    kinds = {kind: [restoration.names.index(name) for name in names] for kind, names in KINDS.items()}
    values = {
        "photographs": gain.shape[-1],
        "classes": len(naming.classes),
        "naming_top1": naming.top1,
        "naming_top3": naming.top3,
        "clean_called_clean": naming.clean,
        "severity_error": naming.severity_error,
        "retrieval": retrieval,
        **{f"psnr_gain_{kind}": float(gain[rows, MIDDLE].mean()) for kind, rows in kinds.items()},
        "psnr_of_restored_clean": float(restoration.psnr_clean.mean()),
        "psnr_true_over_shuffled_d": float(own.mean()),
    }
    values = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
    interval = estimate(own.reshape(-1, own.shape[-1]).mean(axis=0)).interval
    values["psnr_true_over_shuffled_d_95"] = [round(end, 4) for end in interval]
    return values


def real_noise(examiner: Examiner, noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean PSNR and SSIM of real pairs before and after restoration, and how often the top type is a noise.

    noisy, clean: (H, W, 3) uint8 each, sides divisible by 32.
    """
    rows = []
    for before, reference in zip(noisy, clean, strict=True):
        after, top = examiner.restore(before)
        x, y = before.astype(np.float32) / 255.0, reference.astype(np.float32) / 255.0
        measured = (*(psnr(z, y) for z in (x, after)), *(ssim(z, y) for z in (x, after)))
        rows.append([float(value) for value in measured] + [top in NOISES])
    means = np.mean(np.array(rows, np.float64), axis=0)
    keys = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "most_probable_is_a_noise")
    return {"pairs": len(rows), **{key: round(float(mean), 4) for key, mean in zip(keys, means, strict=True)}}


def restoration_csv(restoration: Restoration) -> str:
    """One line per type and level: severity, PSNR and SSIM before and after, PSNR with a shuffled vector, gains."""
    measures = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "psnr_shuffled")
    rows = [["degradation", "level", "severity", *measures, "psnr_gain", "ssim_gain"]]
    for i, name in enumerate(restoration.names):
        for level, severity in enumerate(restoration.levels[i]):
            means = {measure: float(getattr(restoration, measure)[i, level].mean()) for measure in measures}
            gains = (means["psnr_after"] - means["psnr_before"], means["ssim_after"] - means["ssim_before"])
            values = (f"{value:.4f}" for value in (severity, *means.values(), *gains))
            rows.append([name, level + 1, *values])
    return to_csv(rows)


def confusion_figure(naming: Naming) -> Figure:
    """The confusion matrix as shares of each row, with a column for unsure images."""
    share = naming.confusion / naming.confusion.sum(axis=1, keepdims=True)
    share = np.concatenate([share, np.full((len(share), 1), np.nan), naming.unsure[:, None]], axis=1)
    figure = blank_figure(9.5, 8.5)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    columns = [name.replace("_", " ") for name in (*naming.classes, "", "unsure")]
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(naming.classes)), columns[:-2])
    axes.set_xlabel("most probable class; unsure: no type has a probability of one half")
    axes.set_ylabel("true")
    axes.set_title(f"Naming at severity .5 and above: macro top-1 {naming.top1:.3f}, top-3 {naming.top3:.3f}")
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.05:
            text, color = f"{value:.2f}"[1:] if value < 0.995 else "1", "white" if value > 0.5 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    return figure


def restoration_figure(restoration: Restoration) -> Figure:
    """PSNR gain by type: a bar for the middle level, dots for all five."""
    gain = (restoration.psnr_after - restoration.psnr_before).mean(axis=-1)
    order = np.argsort(gain[:, MIDDLE])
    figure = blank_figure(8, 8.5)
    axes = figure.subplots()
    rows = np.arange(len(order))
    axes.barh(rows, gain[order, MIDDLE], color="#9ecae1")
    for level in range(gain.shape[1]):
        axes.plot(gain[order, level], rows, "o", ms=3.5, color=str(0.75 - 0.15 * level), label=f"level {level + 1}")
    axes.set_yticks(rows, [restoration.names[i].replace("_", " ") for i in order])
    axes.axvline(0, color="black", lw=0.8)
    # A tiny change of an almost clean image costs many dB; without a limit it hides the rest.
    axes.set_xlim(max(-12, gain.min() - 0.5), gain.max() + 0.5)
    axes.set_xlabel("PSNR gained by restoring, dB (bar: the middle level)")
    axes.legend(frameon=False, loc="lower right")
    return figure
