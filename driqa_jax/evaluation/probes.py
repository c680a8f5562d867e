"""How separate the two representations are: linear probes, CKA, and the restorer's gain from `d`.

A degradation vector should predict degradations better than MOS, a quality vector the reverse, and the restorer
should lose PSNR if it reads the vector of another image.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.examination import CLASS_OF, Examiner, Restoration, classes
from driqa_jax.evaluation.linear_probes import grouped_folds, predict_mos, predict_types
from driqa_jax.evaluation.report import measure
from driqa_jax.progress import ProgressFn, silent

REPRESENTATIONS = ("d", "q", "d_tilde", "q_tilde")
SHOWN = {"d": "d", "q": "q", "d_tilde": "d~", "q_tilde": "q~"}
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


class Reader:
    """Computes the representations of an image, before and after the interaction; compiled once per canvas of the rule.

    `model` is a `driqa_jax.models.driqa.DRIQA` with its `params`; `rule` says how an image becomes a view.
    """

    def __init__(self, model: nn.Module, params: dict, rule: ViewRule):
        self._params, self._rule = params, rule

        def compute(params, whole, valid, tiles, tile_boxes):
            whole, tiles = (x.astype(jnp.float32) / 255.0 for x in (whole, tiles))
            _, out = model.apply({"params": params}, whole, valid, tiles, tile_boxes)
            return jnp.concatenate([out[name] for name in REPRESENTATIONS])

        self._compute = jax.jit(compute)

    def __call__(self, image: ImageSource, name: str | None = None) -> np.ndarray:
        """(4, C) float32 in the order of `REPRESENTATIONS`. Raises UnreadableImage."""
        view = make_view(decode(image, name=name), self._rule)
        arrays = (view[key][None] for key in ("whole", "valid", "tiles", "tile_boxes"))
        return np.asarray(self._compute(self._params, *arrays))


def stacked(rows: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Results (4, C) of N images as (N, C) by name."""
    columns = np.stack(list(rows), axis=1)
    return dict(zip(REPRESENTATIONS, columns, strict=True))


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


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear centered kernel alignment of (N, C) and (N, C'), rows of the same N images, N at least 4.

    It is 1 for y = a x Q + b with Q orthogonal, and 0 on average for independent representations; it can be negative.
    None if the estimated HSIC of x or y with itself is not positive. Raises ValueError for other shapes.

    Source: Kornblith et al., ICML 2019, with the unbiased HSIC of Song et al., JMLR 13, 2012, eq. 5; Nguyen et al.,
    ICLR 2021, eq. 3.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"CKA compares (N, C) with (N, C'); got {x.shape} and {y.shape}")
    if len(x) < 4:
        raise ValueError(f"unbiased CKA needs at least 4 pictures, got {len(x)}")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    shared, own_x, own_y = (_unbiased_hsic(a @ a.T, b @ b.T) for a, b in ((x, y), (x, x), (y, y)))
    return None if own_x <= 0 or own_y <= 0 else float(shared / np.sqrt(own_x * own_y))


def _unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    n = len(k)
    k, m = (kernel - np.diag(np.diag(kernel)) for kernel in (k, m))
    rows_k, rows_m = k.sum(axis=1), m.sum(axis=1)
    all_pairs = rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2))
    return ((k * m).sum() + all_pairs - 2 / (n - 2) * (rows_k @ rows_m)) / (n * (n - 3))
