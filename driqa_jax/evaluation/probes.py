"""How separate the two representations are: linear probes, their similarity, what the restorer gains from `d`.

A degradation vector should name degradations better than it tells MOS, a quality vector the other way round, and the
restorer should lose by reading another picture's vector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from driqa_jax.evaluation.estimates import Estimate, estimate
from driqa_jax.evaluation.examination import CLASS_OF, Examiner, Restoration, classes
from driqa_jax.evaluation.linear_probes import grouped_folds, predict_mos, predict_types
from driqa_jax.evaluation.report import measure
from driqa_jax.evaluation.representations import SHOWN, Reader, stacked
from driqa_jax.evaluation.similarity import unbiased_cka

DRAWS = 2  # severities of each type, from [.5, 1]
PARTS = 20  # groups of pictures left out in turn, for the spread of CKA
PAIRS = (("d", "q"), ("d_tilde", "q_tilde"))
Representations = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Probed:
    """What was found; every figure with its interval.

    mos: SRCC and PLCC of MOS read from each representation, by representation and figure. types: the share of
    degradations named right, the mean over `classes` classes, by representation. cka: by the pictures that were
    compared and "d, q" or "d~, q~". restoring: mean PSNR gained by the restorer, dB, with the "true" vector, with one
    "shuffled" among pictures of the same type, and the "difference".
    """

    mos: dict[str, dict[str, Estimate]]
    types: dict[str, Estimate]
    classes: int
    cka: dict[str, dict[str, Estimate]]
    restoring: dict[str, Estimate]

    def rows(self) -> list[list]:
        """Rows of a table: diagnostic, of what, figure."""
        mos = [[f"MOS read from it, {k.upper()}", x, e] for x, figures in self.mos.items() for k, e in figures.items()]
        named = [[f"degradation named from it, of {self.classes}", x, e] for x, e in self.types.items()]
        alike = [[f"CKA on {where}", pair, e] for where, pairs in self.cka.items() for pair, e in pairs.items()]
        return mos + named + alike + [["PSNR gained by R, dB", f"{which} d", e] for which, e in self.restoring.items()]


HEADS = ("diagnostic", "of", "figure")


def read_degraded(examiner: Examiner, reader: Reader, photos: int, progress=lambda done, count: None):
    """KADID-10k's types as an examiner draws them, read: representations (N, C) by name, classes and photographs (N,).

    photos: how many the examiner holds. progress: told (types done, in all).
    """
    asked, rows, labels = [name for name in CLASS_OF if name in examiner.names], [], []
    groups = classes(examiner.names)
    for done, name in enumerate(asked):
        for pictures in examiner.drawn(name, DRAWS)[1]:
            rows += [reader(picture) for picture in np.rint(np.asarray(pictures) * 255).astype(np.uint8)]
            labels += [groups.index(CLASS_OF[name])] * photos
        progress(done + 1, len(asked))
    return stacked(rows), np.array(labels), np.tile(np.arange(photos), len(rows) // photos)


def probe_mos(seen: Representations, mos: np.ndarray, groups: np.ndarray, draws: int, seed: int = 0):
    """SRCC and PLCC of MOS (N,) with what ridges read, by representation; folds keep `groups` (N,) together."""
    folds = grouped_folds(groups, seed=seed)
    found = {}
    for name, x in seen.items():
        part = measure(predict_mos(x, mos, folds), mos, draws, seed)
        found[SHOWN[name]] = {k: Estimate(part.metrics[k], part.intervals.get(k), part.n) for k in ("srcc", "plcc")}
    return found


def probe_types(seen: Representations, labels: np.ndarray, photos: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """The share of degradations named right, the mean over classes; whole photographs are held out and resampled."""
    folds = grouped_folds(photos.astype(str), seed=seed)
    found = {}
    for name, x in seen.items():
        right = predict_types(x, labels, folds).argmax(axis=1) == labels
        each = [
            np.mean([right[(photos == photo) & (labels == label)].mean() for label in np.unique(labels)])
            for photo in np.unique(photos)
        ]
        found[SHOWN[name]] = estimate(np.array(each), seed=seed)
    return found


def compare(seen: Representations, groups: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """Unbiased CKA of d and q, and of d~ and q~; the interval is the jackknife's, leaving out a part of the groups.

    A bootstrap would not do: a picture drawn twice is like itself, and adds to every CKA.
    """
    parts = grouped_folds(groups, min(PARTS, len(np.unique(groups))), seed)
    found = {}
    for first, second in PAIRS:
        x, y = seen[first], seen[second]
        value = unbiased_cka(x, y)
        without = [unbiased_cka(x[parts != part], y[parts != part]) for part in range(parts.max() + 1)]
        interval = None
        if value is not None and None not in without:
            count = len(without)
            spread = 1.96 * np.sqrt((count - 1) / count * np.sum((np.array(without) - np.mean(without)) ** 2))
            interval = (float(value - spread), float(value + spread))
        found[f"{SHOWN[first]}, {SHOWN[second]}"] = Estimate(value, interval, len(x))
    return found


def gains(found: Restoration, seed: int = 0) -> dict[str, Estimate]:
    """Mean PSNR gained over types and levels, dB, with the true and a shuffled vector; photographs are resampled."""
    true, shuffled = (
        (after - found.psnr_before).mean(axis=(0, 1)) for after in (found.psnr_after, found.psnr_shuffled)
    )
    pairs = {"true": true, "shuffled": shuffled, "difference": true - shuffled}
    return {name: estimate(values, seed=seed) for name, values in pairs.items()}
