"""Monotonic calibration of predictions to human scores, fitted on the validation set."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

# Without bounds, a nearly linear relation diverges to an infinitely wide and tall curve.
_LOW, _SPAN, _WIDTH = (-1.0, 1.0), (1e-3, 4.0), (1e-3, 10.0)
FEWEST = 10


@dataclasses.dataclass(frozen=True)
class PlainValues:
    """A dataclass that is stored as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` restores them exactly."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Self:
        """The inverse of `to_dict`; None counts as {}. Raises ValueError for an unknown or missing key."""
        values = values or {}
        try:
            return cls(**values)
        except TypeError:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ValueError(f"{cls.__name__.lower()}: the keys must be {known}, got {sorted(values)}") from None


@dataclasses.dataclass(frozen=True)
class Calibration(PlainValues):
    """`low + span * sigmoid((prediction - centre) / width)`, or the identity if `width` is None.

    Raises ValueError unless all values are finite and `span` and `width` are positive, so that the curve rises.
    """

    low: float = 0.0
    span: float = 1.0
    centre: float = 0.0
    width: float | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name == "width" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
                raise ValueError(f"calibration: {name} must be a finite number, got {value!r}")
        if self.span <= 0 or (self.width is not None and self.width <= 0):
            raise ValueError(f"calibration: span and width must be positive, got {self.span} and {self.width}")

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions, any shape, to MOS, float64, not clipped."""
        prediction = np.asarray(prediction, np.float64)
        if self.width is None:
            return prediction
        return self.low + self.span * _sigmoid((prediction - self.centre) / self.width)


IDENTITY = Calibration()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # tanh does not overflow. Importing scipy.special.expit takes a third of a second.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def fit_calibration(prediction: np.ndarray, mos: np.ndarray) -> Calibration:
    """The least-squares curve from predictions (N,) to MOS (N,) in [0, 1], on images outside the training set.

    Raises ValueError for mismatched shapes, non-finite values, fewer than 10 images, or predictions that are constant
    or do not rise with MOS.
    """
    from scipy.optimize import least_squares

    x, y = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"prediction and mos must both have the shape (N,), got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("prediction and mos must be finite")
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} images are too few to calibrate on; give at least {FEWEST}")
    if np.ptp(x) == 0 or np.ptp(y) == 0 or np.corrcoef(x, y)[0, 1] <= 0:
        raise ValueError("predictions do not rise with mos, so no calibration can be fitted")

    def curve(b: np.ndarray) -> np.ndarray:
        return b[0] + np.exp(b[1]) * _sigmoid((x - b[2]) / np.exp(b[3]))

    # The logarithms of span and width keep both positive, so every candidate rises.
    centre = (float(x.min() - 1), float(x.max() + 1))
    start = [
        np.clip(y.min() - 0.1, *_LOW),
        np.log(np.clip(np.ptp(y) + 0.2, *_SPAN)),
        float(x.mean()),
        np.log(np.clip(x.std(), *_WIDTH)),
    ]
    bounds = np.array([_LOW, np.log(_SPAN), centre, np.log(_WIDTH)]).T
    best = least_squares(lambda b: curve(b) - y, np.clip(np.array(start), *bounds), bounds=bounds, x_scale=0.1).x
    return Calibration(float(best[0]), float(np.exp(best[1])), float(best[2]), float(np.exp(best[3])))


@dataclasses.dataclass(frozen=True)
class OwnScale(PlainValues):
    """A rising curve from scores (0 to 100) to a user's scale from `low` to `high`."""

    curve: Calibration
    low: float
    high: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores, any shape, to the user's scale, float64."""
        fractions = np.clip(self.curve(np.asarray(scores, np.float64) / 100), 0.0, 1.0)
        return self.low + (self.high - self.low) * fractions


def fit_own_scale(scores: np.ndarray, own_mos: np.ndarray, scale: tuple[float, float] | None = None) -> OwnScale:
    """The curve from scores (N,) in [0, 100] to a user's ratings (N,).

    `scale` is the lowest and highest possible rating; None takes those of `own_mos`. Raises ValueError as
    `fit_calibration` does, and for ratings outside the scale.
    """
    own_mos = np.asarray(own_mos, np.float64)
    if scale is None:
        scale = (float(own_mos.min()), float(own_mos.max())) if own_mos.size else (0.0, 1.0)
    low, high = scale
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low:
        raise ValueError(f"the scale must rise between finite ends, got {low} and {high}")
    if (own_mos < low).any() or (own_mos > high).any():
        raise ValueError(f"ratings lie from {own_mos.min():g} to {own_mos.max():g}, outside {low:g} to {high:g}")
    curve = fit_calibration(np.asarray(scores, np.float64) / 100, (own_mos - low) / (high - low))
    return OwnScale(curve, float(low), float(high))
