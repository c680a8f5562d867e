"""How separate the two representations are: linear probes, CKA, and the restorer's gain from `d`.

A degradation vector should predict degradations better than MOS, a quality vector the reverse, and the restorer
should lose PSNR if it reads the vector of another image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.examination import CLASS_OF, Examiner, Restoration, classes
from driqa_jax.evaluation.linear_probes import grouped_folds, predict_mos, predict_types
from driqa_jax.evaluation.report import measure
from driqa_jax.evaluation.representations import SHOWN, Reader, stacked, unbiased_cka
from driqa_jax.progress import ProgressFn, silent

DRAWS = 2  # severities per type, from [.5, 1]
PARTS = 20  # groups of images of the CKA jackknife
PAIRS = (("d", "q"), ("d_tilde", "q_tilde"))
HEADS = ("diagnostic", "of", "figure")
Representations = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ProbeResults:
    """Estimates with intervals.

    mos: SRCC and PLCC of predicted MOS, by representation and metric. types: share of correctly named degradations,
    mean over `classes` classes, by representation. cka: by image set and pair ("d, q" or "d~, q~"). restoring: mean
    PSNR gain of the restorer in dB with the "true" vector, with one "shuffled" within a type, and their "difference".
    """

    mos: dict[str, dict[str, Estimate]]
    types: dict[str, Estimate]
    classes: int
    cka: dict[str, dict[str, Estimate]]
    restoring: dict[str, Estimate]

    def rows(self) -> list[list[str | Estimate]]:
        """Table rows under `HEADS`."""
        mos = [[f"MOS read from it, {k.upper()}", x, e] for x, values in self.mos.items() for k, e in values.items()]
        named = [[f"degradation named from it, of {self.classes}", x, e] for x, e in self.types.items()]
        cka = [[f"CKA on {where}", pair, e] for where, pairs in self.cka.items() for pair, e in pairs.items()]
        return mos + named + cka + [["PSNR gained by R, dB", f"{which} d", e] for which, e in self.restoring.items()]


def read_degraded(
    examiner: Examiner, reader: Reader, photos: int, progress: ProgressFn = silent
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Representations (N, C) by name of KADID-10k's types on the examiner's photographs; class and photo index (N,)."""
    names, rows, labels = [name for name in CLASS_OF if name in examiner.names], [], []
    groups = classes(examiner.names)
    for done, name in enumerate(names):
        for images in examiner.drawn(name, DRAWS)[1]:
            rows += [reader(image) for image in np.rint(np.asarray(images) * 255).astype(np.uint8)]
            labels += [groups.index(CLASS_OF[name])] * photos
        progress("reading types", done + 1, len(names))
    return stacked(rows), np.array(labels), np.tile(np.arange(photos), len(rows) // photos)


def probe_mos(
    features: Representations, mos: np.ndarray, groups: np.ndarray, draws: int, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """SRCC and PLCC of MOS (N,) with ridge predictions, by representation; a group (N,) stays in one fold."""
    folds = grouped_folds(groups, seed=seed)
    results = {}
    for name, x in features.items():
        part = measure(predict_mos(x, mos, folds), mos, draws, seed)
        results[SHOWN[name]] = {k: Estimate(part.metrics[k], part.intervals.get(k), part.n) for k in ("srcc", "plcc")}
    return results


def probe_types(
    features: Representations, labels: np.ndarray, photos: np.ndarray, seed: int = 0
) -> dict[str, Estimate]:
    """Share of correctly named degradations, mean over classes; folds and resamples are whole photographs."""
    folds = grouped_folds(photos.astype(str), seed=seed)
    results = {}
    for name, x in features.items():
        right = predict_types(x, labels, folds).argmax(axis=1) == labels
        per_photo = [
            np.mean([right[(photos == photo) & (labels == label)].mean() for label in np.unique(labels)])
            for photo in np.unique(photos)
        ]
        results[SHOWN[name]] = estimate(np.array(per_photo), seed=seed)
    return results


def compare(features: Representations, groups: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """Unbiased CKA of d and q, and of d~ and q~, with jackknife intervals over parts of the groups.

    A bootstrap is not usable: an image drawn twice is similar to itself and raises every CKA.
    """
    parts = grouped_folds(groups, min(PARTS, len(np.unique(groups))), seed)
    results = {}
    for first, second in PAIRS:
        x, y = features[first], features[second]
        value = unbiased_cka(x, y)
        without = [unbiased_cka(x[parts != part], y[parts != part]) for part in range(parts.max() + 1)]
        interval = None
        if value is not None and None not in without:
            count = len(without)
            reach = 1.96 * np.sqrt((count - 1) / count * np.sum((np.array(without) - np.mean(without)) ** 2))
            interval = (float(value - reach), float(value + reach))
        results[f"{SHOWN[first]}, {SHOWN[second]}"] = Estimate(value, interval, len(x))
    return results


def gains(restoration: Restoration, seed: int = 0) -> dict[str, Estimate]:
    """Mean PSNR gain in dB over types and levels, with the true and a shuffled vector; units are photographs."""
    true, shuffled = (
        (after - restoration.psnr_before).mean(axis=(0, 1))
        for after in (restoration.psnr_after, restoration.psnr_shuffled)
    )
    pairs = {"true": true, "shuffled": shuffled, "difference": true - shuffled}
    return {name: estimate(values, seed=seed) for name, values in pairs.items()}
