"""Agreement of predictions with human opinion: SRCC, KRCC, PLCC (raw and fitted), RMSE.

`prediction` and `mos` are (N,), real and finite. An undefined correlation (constant input, fewer than two images) is
None. Every function raises ValueError for other shapes, an empty input, NaN or infinity.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

Scores = Sequence[float] | np.ndarray

_SAME = 1e-12  # relative difference that rounding alone can cause; the order of such values is meaningless
_FEWEST_FOR_FIT = 5  # four parameters through four points fit anything
_FLAT = 36.0  # beyond this argument the logistic is saturated in double precision


def srcc(prediction: Scores, mos: Scores) -> float | None:
    """Spearman's rank correlation in [-1, 1]; ties get their mean rank."""
    x, y = _pair(prediction, mos)
    if _is_constant(x) or _is_constant(y):
        return None
    return _pearson(rankdata(x), rankdata(y))


def krcc(prediction: Scores, mos: Scores) -> float | None:
    """Kendall's rank correlation tau-b in [-1, 1]."""
    x, y = _pair(prediction, mos)
    if _is_constant(x) or _is_constant(y):
        return None
    return float(kendalltau(x, y, variant="b").statistic)


def plcc(prediction: Scores, mos: Scores) -> float | None:
    """Pearson's linear correlation in [-1, 1] of the raw predictions."""
    return _pearson(*_pair(prediction, mos))


def plcc_fitted(prediction: Scores, mos: Scores) -> float | None:
    """Pearson's correlation after a 4-parameter logistic fit; None if the fit does not converge."""
    x, y = _pair(prediction, mos)
    parameters = fit_logistic(x, y)
    return None if parameters is None else _pearson(logistic(x, *parameters), y)


def rmse(prediction: Scores, mos: Scores) -> float:
    """Root mean square error, in the unit of `mos`."""
    x, y = _pair(prediction, mos)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """`b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))`, the usual mapping before PLCC (VQEG)."""
    steps = (x - b3) / max(abs(b4), np.finfo(np.float64).tiny)
    return b2 + (b1 - b2) * expit(np.clip(steps, -_FLAT, _FLAT))


def fit_logistic(prediction: Scores, mos: Scores) -> tuple[float, float, float, float] | None:
    """Least-squares b1..b4 of `logistic`, from [max mos, min mos, mean prediction, std prediction].

    None if the input is constant, has fewer than five images, or the fit does not converge.
    """
    x, y = _pair(prediction, mos)
    if len(x) < _FEWEST_FOR_FIT or _is_constant(x) or _is_constant(y):
        return None
    # The solver works best on values of order one.
    middle, spread, least, height = x.mean(), x.std(), y.min(), np.ptp(y)
    z, target, start = (x - middle) / spread, (y - least) / height, np.array([1.0, 0.0, 0.0, 1.0])
    # Not MINPACK: on steep steps its damping reaches denormal numbers, and the last digits then depend on whether some
    # loaded library made the processor flush denormals to zero.
    fit = least_squares(lambda b: logistic(z, *b) - target, start, method="trf", x_scale="jac", max_nfev=2_000)
    if not (fit.success and np.isfinite(fit.x).all()):
        return None
    b1, b2, b3, b4 = fit.x
    return tuple(float(b) for b in (least + height * b1, least + height * b2, middle + spread * b3, spread * b4))


def _pair(prediction: Scores, mos: Scores) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"prediction {x.shape} and mos {y.shape} must both have the shape (N,)")
    if not len(x):
        raise ValueError("prediction and mos must not be empty")
    for name, values in (("prediction", x), ("mos", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]} ({len(bad)} such values); remove it first")
    return x, y


def _is_constant(x: np.ndarray) -> bool:
    return bool(np.ptp(x) <= _SAME * np.abs(x).max())


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    if _is_constant(x) or _is_constant(y):
        return None
    x, y = x - x.mean(), y - y.mean()
    # Scale first: squares of tiny numbers underflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    r = (x @ y) / np.sqrt((x @ x) * (y @ y))
    return float(np.clip(r, -1.0, 1.0))
