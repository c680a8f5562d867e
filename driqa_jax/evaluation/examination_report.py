"""An examination as a summary, a table and pictures."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from driqa_jax.degradations import DEGRADATIONS
from driqa_jax.evaluation import bootstrap
from driqa_jax.evaluation.examination import Examiner, Naming, Restoration
from driqa_jax.evaluation.full_reference import psnr, ssim

RESAMPLES = 2000
MIDDLE = 2  # the third of five levels
NOISES = frozenset(entry.name for entry in DEGRADATIONS if entry.group == "noise" or entry.name == "low_light")


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean, over the last axis of `values` (..., photographs)."""
    means = values.reshape(-1, values.shape[-1]).mean(axis=0)
    draws = np.random.default_rng(seed).integers(0, len(means), (RESAMPLES, len(means)))
    return bootstrap.intervals({"mean": means[draws].mean(axis=1)})["mean"]


def summary(naming: Naming, restoration: Restoration, retrieval: float) -> dict:
    """The numbers that count, rounded; gains in dB are means over photographs."""
    gain = restoration.psnr_after - restoration.psnr_before
    kinds = {
        "noise": ("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
        "blur": ("gaussian_blur", "lens_blur", "motion_blur"),
        "jpeg": ("jpeg",),
    }
    at = {
        f"psnr_gain_{kind}": float(np.mean([gain[restoration.names.index(name), MIDDLE].mean() for name in names]))
        for kind, names in kinds.items()
    }
    own = restoration.psnr_after - restoration.psnr_shuffled
    found = {
        "photographs": gain.shape[-1],
        "classes": len(naming.classes),
        "naming_top1": naming.top1,
        "naming_top3": naming.top3,
        "clean_called_clean": naming.clean,
        "severity_error": naming.severity_error,
        "retrieval": retrieval,
        **at,
        "psnr_of_restored_clean": float(restoration.psnr_clean.mean()),
        "psnr_true_over_shuffled_d": float(own.mean()),
    }
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    found["psnr_true_over_shuffled_d_95"] = [round(end, 4) for end in interval(own)]
    return found


def real_noise(examiner: Examiner, noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> dict:
    """Pairs of real photographs: PSNR and SSIM before and after restoring, and how often the noise is seen as one.

    noisy, clean: uint8 (H, W, 3) each, sides divisible by 32.
    """
    rows = []
    for before, reference in zip(noisy, clean, strict=True):
        after, named = examiner.restore(before)
        x, y = before.astype(np.float32) / 255.0, reference.astype(np.float32) / 255.0
        measured = (*(psnr(z, y) for z in (x, after)), *(ssim(z, y) for z in (x, after)))
        rows.append([float(value) for value in measured] + [named in NOISES])
    means = np.mean(np.array(rows, np.float64), axis=0)
    keys = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "most_probable_is_a_noise")
    return {"pairs": len(rows), **{key: round(float(mean), 4) for key, mean in zip(keys, means, strict=True)}}


def table(restoration: Restoration) -> str:
    """CSV, a row a type and level: severity, PSNR and SSIM before and after, the gains, PSNR with a shuffled d."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    measures = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "psnr_shuffled")
    rows.writerow(["degradation", "level", "severity", *measures, "psnr_gain", "ssim_gain"])
    for i, name in enumerate(restoration.names):
        for level, severity in enumerate(restoration.levels[i]):
            means = {measure: float(getattr(restoration, measure)[i, level].mean()) for measure in measures}
            gains = (means["psnr_after"] - means["psnr_before"], means["ssim_after"] - means["ssim_before"])
            values = (f"{value:.4f}" for value in (*means.values(), *gains))
            rows.writerow([name, level + 1, f"{severity:.4f}", *values])
    return out.getvalue()


def confusion_figure(naming: Naming):
    """The confusion matrix, shares of each row, and how often no type is sure; a matplotlib Figure."""
    from matplotlib.figure import Figure

    share = naming.confusion / naming.confusion.sum(axis=1, keepdims=True)
    share = np.concatenate([share, np.full((len(share), 1), np.nan), naming.unsure[:, None]], axis=1)
    figure = Figure(figsize=(9.5, 8.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    columns = [name.replace("_", " ") for name in (*naming.classes, "", "unsure")]
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(naming.classes)), columns[:-2])
    axes.set_xlabel("most probable class; apart from that, unsure: no type passes a probability of one half")
    axes.set_ylabel("true")
    axes.set_title(f"Naming at severity .5 and above: macro top-1 {naming.top1:.3f}, top-3 {naming.top3:.3f}")
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            if value >= 0.05:
                axes.text(
                    j,
                    i,
                    f"{value:.2f}"[1:] if value < 0.995 else "1",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if value > 0.5 else "black",
                )
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    return figure


def restoration_figure(restoration: Restoration):
    """PSNR gained by restoring, a bar a type at the middle level and dots for all five; a matplotlib Figure."""
    from matplotlib.figure import Figure

    gain = (restoration.psnr_after - restoration.psnr_before).mean(axis=-1)
    order = np.argsort(gain[:, MIDDLE])
    figure = Figure(figsize=(8, 8.5), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(order))
    axes.barh(rows, gain[order, MIDDLE], color="#9ecae1")
    for level in range(gain.shape[1]):
        axes.plot(gain[order, level], rows, "o", ms=3.5, color=str(0.75 - 0.15 * level), label=f"level {level + 1}")
    axes.set_yticks(rows, [restoration.names[i].replace("_", " ") for i in order])
    axes.axvline(0, color="black", lw=0.8)
    # Where hardly anything was done, a trace of change costs many dB; it would hide the rest.
    axes.set_xlim(max(-12, gain.min() - 0.5), gain.max() + 0.5)
    axes.set_xlabel("PSNR gained by restoring, dB (bar: the middle level)")
    axes.legend(frameon=False, loc="lower right")
    return figure
