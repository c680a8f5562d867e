"""From predictions to the scale of human scores: a curve that only ever rises, fitted on validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# Bounds keep a nearly straight relation from running off to an endless, endlessly flat curve.
_LOW, _SPAN, _WIDTH = (-1.0, 1.0), (1e-3, 4.0), (1e-3, 10.0)
FEWEST = 10


@dataclasses.dataclass(frozen=True)
class Calibration:
    """`low + span * sigmoid((prediction - centre) / width)`, or the prediction itself where `width` is None.

    `span` and `width` are positive, so a better prediction never becomes a lower score. Raises ValueError
    otherwise.
    """

    low: float = 0.0
    span: float = 1.0
    centre: float = 0.0
    width: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "width" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
                raise ValueError(f"calibration: {field.name} must be a finite number, got {value!r}")
        if self.span <= 0 or (self.width is not None and self.width <= 0):
            raise ValueError(f"calibration must rise: span and width must be positive, got {self.span}, {self.width}")

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions, any shape, to MOS (not clipped), float64."""
        prediction = np.asarray(prediction, np.float64)
        if self.width is None:
            return prediction
        return self.low + self.span * _sigmoid((prediction - self.centre) / self.width)

    def to_dict(self) -> dict[str, float | None]:
        """Plain values, for JSON; `from_dict` gives back the same curve to the bit."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Calibration:
        """The inverse of `to_dict`; None or {} is the identity. Raises ValueError for an unknown key."""
        values = values or {}
        try:
            return cls(**values)
        except TypeError:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ValueError(f"calibration holds {sorted(values)}; expected {known}") from None


IDENTITY = Calibration()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # As a tanh nothing overflows. scipy has one too, and takes a third of a second to import.
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def fit_calibration(prediction: np.ndarray, mos: np.ndarray) -> Calibration:
    """The least-squares curve from predictions to MOS in [0, 1], both (N,), of pictures not trained on.

    Raises ValueError for mismatched shapes, values that are not finite, fewer than 10 pictures, or
    predictions that are constant or do not rise with MOS (such a model has nothing to calibrate).
    """
    from scipy.optimize import least_squares

    x, y = np.asarray(prediction, np.float64), np.asarray(mos, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"prediction {x.shape} and mos {y.shape} must both have the shape (N,)")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("prediction and mos must be finite")
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} pictures are too few to calibrate on; give at least {FEWEST}")
    if np.ptp(x) == 0 or np.ptp(y) == 0 or np.corrcoef(x, y)[0, 1] <= 0:
        raise ValueError("predictions do not rise with mos; there is nothing to calibrate")

    def curve(b: np.ndarray) -> np.ndarray:
        return b[0] + np.exp(b[1]) * _sigmoid((x - b[2]) / np.exp(b[3]))

    def inside(value: float, bounds: tuple[float, float]) -> float:
        return float(np.clip(value, bounds[0], bounds[1]))

    # Logarithms of span and width: whatever the search finds, the curve rises.
    centre = (float(x.min() - 1), float(x.max() + 1))
    start = [
        inside(y.min() - 0.1, _LOW),
        np.log(inside(np.ptp(y) + 0.2, _SPAN)),
        float(x.mean()),
        np.log(inside(x.std(), _WIDTH)),
    ]
    bounds = np.array([_LOW, np.log(_SPAN), centre, np.log(_WIDTH)]).T
    found = least_squares(lambda b: curve(b) - y, np.clip(np.array(start), *bounds), bounds=bounds, x_scale=0.1).x
    return Calibration(float(found[0]), float(np.exp(found[1])), float(found[2]), float(np.exp(found[3])))


@dataclasses.dataclass(frozen=True)
class OwnScale:
    """From scores (0 to 100) to a scale of one's own, `low` to `high`, by a curve that rises."""

    curve: Calibration
    low: float
    high: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores, any shape, to the own scale, float64."""
        fractions = np.clip(self.curve(np.asarray(scores, np.float64) / 100), 0.0, 1.0)
        return self.low + (self.high - self.low) * fractions

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def fit_own_scale(scores: np.ndarray, own_mos: np.ndarray, scale: tuple[float, float] | None = None) -> OwnScale:
    """The curve from scores (0 to 100) to one's own ratings, both (N,); `scale`: the ends of the own scale.

    Raises ValueError as `fit_calibration` does, and for ratings outside the scale.
    """
    own_mos = np.asarray(own_mos, np.float64)
    if scale is None:
        scale = (float(own_mos.min()), float(own_mos.max())) if own_mos.size else (0.0, 1.0)
    low, high = scale
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low:
        raise ValueError(f"the scale ends at {low} and {high}; it must rise")
    if (own_mos < low).any() or (own_mos > high).any():
        raise ValueError(f"ratings lie from {own_mos.min():g} to {own_mos.max():g}, outside {low:g} to {high:g}")
    curve = fit_calibration(np.asarray(scores, np.float64) / 100, (own_mos - low) / (high - low))
    return OwnScale(curve, float(low), float(high))
