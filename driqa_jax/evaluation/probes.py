"""How separate the two representations are: linear probes, CKA, and the restorer's gain from `d`.

A degradation vector should predict degradations better than MOS, a quality vector the reverse, and the restorer
should lose PSNR if it reads the vector of another image.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.splits import hash_ranks
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.examination import CLASS_OF, Examiner, Restoration, classes
from driqa_jax.evaluation.report import measure
from driqa_jax.progress import ProgressFn, silent

REPRESENTATIONS = ("d", "q", "d_tilde", "q_tilde")
SHOWN = {"d": "d", "q": "q", "d_tilde": "d~", "q_tilde": "q~"}
DRAWS = 2  # severities per type, from [.5, 1]
PARTS = 20  # groups of images of the CKA jackknife
PAIRS = (("d", "q"), ("d_tilde", "q_tilde"))
HEADS = ("diagnostic", "of", "figure")
Representations = Mapping[str, np.ndarray]
FOLDS = 5
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # for standardized features; an inner fold selects one
LOGISTICS = (1e-4, 1e-3, 1e-2)
Predictor = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ProbeResults:
    """Estimates with intervals."""

    mos: dict[str, dict[str, Estimate]]  # SRCC and PLCC of predicted MOS, by representation and metric
    types: dict[str, Estimate]  # share of correctly named degradations, mean over classes, by representation
    classes: int
    cka: dict[str, dict[str, Estimate]]  # by image set and pair ("d, q" or "d~, q~")
    # Mean PSNR gain of the restorer in dB with the "true" vector, one "shuffled" within a type, their "difference".
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

        def compute(params: dict, whole: jax.Array, valid: jax.Array, tiles: jax.Array, boxes: jax.Array) -> jax.Array:
            whole, tiles = (x.astype(jnp.float32) / 255.0 for x in (whole, tiles))
            _, out = model.apply({"params": params}, whole, valid, tiles, boxes)
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
        cells = [[(photos == photo) & (labels == label) for label in np.unique(labels)] for photo in np.unique(photos)]
        per_photo = [np.mean([right[cell].mean() for cell in row]) for row in cells]
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
    afters = (restoration.psnr_after, restoration.psnr_shuffled)
    true, shuffled = ((after - restoration.psnr_before).mean(axis=(0, 1)) for after in afters)
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


def fit_ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Predictor:
    """Minimize the mean squared error plus `strength` * |w|^2 on standardized features; the intercept is free.

    x: (N, C). y: (N,). Returns a function from (M, C) to (M,).
    """
    shift, scale = standardization(x)
    z, mean = (x - shift) * scale, y.mean()
    w = np.linalg.solve(z.T @ z / len(z) + strength * np.eye(z.shape[1]), z.T @ (y - mean) / len(z))
    return lambda x: (x - shift) * scale @ w + mean


def fit_logistic(x: np.ndarray, labels: np.ndarray, strength: float, classes: int) -> Predictor:
    """Minimize the mean cross-entropy plus `strength` / 2 * |W|^2 on standardized features; intercepts are free.

    x: (N, C). labels: (N,) int from 0 to classes - 1. Returns a function from (M, C) to logits (M, classes).
    """
    shift, scale = standardization(x)
    z = np.concatenate([(x - shift) * scale, np.ones((len(x), 1))], axis=1)
    target = np.eye(classes)[labels]
    penalized = np.ones((z.shape[1], 1))
    penalized[-1] = 0.0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(z.shape[1], classes)
        logs = log_softmax(z @ w, axis=1)
        gradient = z.T @ (np.exp(logs) - target) / len(z) + strength * penalized * w
        return -(logs * target).sum() / len(z) + strength / 2 * (penalized * w**2).sum(), gradient.ravel()

    fit = minimize(loss, np.zeros(z.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    w = fit.x.reshape(z.shape[1], classes)
    return lambda x: (x - shift) * scale @ w[:-1] + w[-1]


def grouped_folds(groups: Sequence[str], folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of each image, (N,) int. A group stays in one fold; folds have equal numbers of groups, up to one.

    Raises ValueError for fewer groups than folds.
    """
    ranks = hash_ranks(np.asarray(groups), seed)
    count = ranks.max(initial=-1) + 1
    if count < folds:
        raise ValueError(f"{count} groups of pictures cannot make {folds} folds; add more pictures")
    return ranks % folds


def predict_mos(x: np.ndarray, mos: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold MOS (N,) of ridge regressions on x (N, C)."""
    return _out_of_fold(x, mos, folds, fit_ridge, lambda predicted, y: np.mean((predicted - y) ** 2), RIDGES)


def predict_types(x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold logits (N, classes) of logistic regressions on x (N, C)."""
    fit = functools.partial(fit_logistic, classes=int(labels.max()) + 1)

    def error(logits: np.ndarray, y: np.ndarray) -> float:
        return -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()

    return _out_of_fold(x, labels, folds, fit, error, LOGISTICS)


def _out_of_fold(x, y, folds, fit, error, strengths):
    """Predict each fold from the others. The fold after it selects the regularization of a fit to the rest."""
    x, count, predicted = np.asarray(x, np.float64), folds.max() + 1, []
    for fold in range(count):
        held, inner = folds == fold, folds == (fold + 1) % count
        rest = ~(held | inner)
        errors = [error(fit(x[rest], y[rest], strength)(x[inner]), y[inner]) for strength in strengths]
        predicted.append(fit(x[~held], y[~held], strengths[int(np.argmin(errors))])(x[held]))
    order = np.argsort(folds, kind="stable")  # the images in the order of `predicted`
    return np.concatenate(predicted)[np.argsort(order)]


def standardization(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and reciprocal standard deviation of features (N, C), each (C,)."""
    deviation = x.std(axis=0)
    # A constant feature gets the weight 0 instead of a division by zero.
    return x.mean(axis=0), np.where(deviation > 1e-9, 1.0 / np.maximum(deviation, 1e-9), 0.0)
