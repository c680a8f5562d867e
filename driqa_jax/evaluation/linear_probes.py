"""Linear probes of a representation: ridge regression and multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from driqa_jax.data.splits import hash_ranks

FOLDS = 5
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # for standardised features; an inner fold selects one
LOGISTICS = (1e-4, 1e-3, 1e-2)
Predictor = Callable[[np.ndarray], np.ndarray]


def fit_ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Predictor:
    """Minimise the mean squared error plus `strength` * |w|^2 on standardised features; the intercept is free.

    x: (N, C). y: (N,). Returns a function from (M, C) to (M,).
    """
    shift, scale = standardisation(x)
    z, mean = (x - shift) * scale, y.mean()
    w = np.linalg.solve(z.T @ z / len(z) + strength * np.eye(z.shape[1]), z.T @ (y - mean) / len(z))
    return lambda x: (x - shift) * scale @ w + mean


def fit_logistic(x: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> Predictor:
    """Minimise the mean cross-entropy plus `strength` / 2 * |W|^2 on standardised features; intercepts are free.

    x: (N, C). labels: (N,) int from 0 to classes - 1. Returns a function from (M, C) to logits (M, classes).
    """
    shift, scale = standardisation(x)
    z = np.concatenate([(x - shift) * scale, np.ones((len(x), 1))], axis=1)
    target = np.eye(classes)[labels]
    penalised = np.ones((z.shape[1], 1))
    penalised[-1] = 0.0

    def loss(flat):
        w = flat.reshape(z.shape[1], classes)
        logs = log_softmax(z @ w, axis=1)
        gradient = z.T @ (np.exp(logs) - target) / len(z) + strength * penalised * w
        return -(logs * target).sum() / len(z) + strength / 2 * (penalised * w**2).sum(), gradient.ravel()

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

    def error(predicted, y):
        return np.mean((predicted - y) ** 2)

    return _out_of_fold(np.asarray(x, np.float64), mos, folds, fit_ridge, error, RIDGES)


def predict_types(x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold logits (N, classes) of logistic regressions on x (N, C)."""
    classes = int(labels.max()) + 1

    def fit(x, y, strength):
        return fit_logistic(x, y, classes, strength)

    def error(logits, y):
        return -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()

    return _out_of_fold(np.asarray(x, np.float64), labels, folds, fit, error, LOGISTICS)


def _out_of_fold(x, y, folds, fit, error, strengths):
    """The next fold selects the strength of a fit without it; then all folds but the own one are fitted."""
    count, result = folds.max() + 1, None
    for fold in range(count):
        held, inner = folds == fold, folds == (fold + 1) % count
        rest = ~(held | inner)
        errors = [error(fit(x[rest], y[rest], strength)(x[inner]), y[inner]) for strength in strengths]
        predicted = fit(x[~held], y[~held], strengths[int(np.argmin(errors))])(x[held])
        if result is None:
            result = np.empty((len(x), *predicted.shape[1:]))
        result[held] = predicted
    return result


def standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and reciprocal standard deviation of features (N, C), each (C,)."""
    deviation = x.std(axis=0)
    # A constant feature gets the weight 0 instead of a division by zero.
    return x.mean(axis=0), np.where(deviation > 1e-9, 1.0 / np.maximum(deviation, 1e-9), 0.0)
