"""How far a photo's human score may lie from its own: split-conformal intervals, wider where its tiles disagree."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from driqa_jax.scoring import calibration

LEVEL = 0.9
FEWEST = 30


@dataclasses.dataclass(frozen=True)
class Interval:
    """Half a width, `factor * (spread + floor)` in MOS: `level` of photos like those of the fit lie within.

    Normalised split-conformal prediction (Lei et al., "Distribution-free predictive inference for regression", 2018,
    section 5.2): the promise is for photos drawn as those of the fit were, on average, and not for each kind of them.
    Raises ValueError for a level outside (0, 1), and a factor or a floor that is not positive.
    """

    level: float
    factor: float
    floor: float

    def __post_init__(self):
        values = dataclasses.astuple(self)
        plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if not plain or not all(math.isfinite(value) and value > 0 for value in values) or self.level >= 1:
            raise ValueError(f"interval: expected a level below 1, a factor and a floor, all positive, got {values}")

    def __call__(self, spread: np.ndarray) -> np.ndarray:
        """Half of the width in MOS, float64, of any shape; spread: as `tile_spread` gives it."""
        return self.factor * (np.asarray(spread, np.float64) + self.floor)

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON; `from_dict` gives back the same interval to the bit."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interval:
        """The inverse of `to_dict`. Raises ValueError for other keys."""
        try:
            return cls(**values)
        except TypeError:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ValueError(f"interval holds {sorted(values)}; expected {known}") from None


def lacking(count: int) -> str:
    """What `driqa export` cannot fit on so many validation pictures, and what to do; "" where there are enough."""
    if count >= FEWEST:
        return ""
    without = "interval" if count >= calibration.FEWEST else "calibration and no interval"
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    return (
        f"warning: {pictures} to validate on; a calibration needs {calibration.FEWEST}, an interval {FEWEST}, so what "
        f"`driqa export` writes has no {without}. Add ratings (the fold is a tenth of them), or choose a larger part "
        "with --config.data.val"
    )


def tile_spread(alone: np.ndarray) -> np.ndarray:
    """The standard deviation over the last axis of scores from single tiles (..., K); 0 where there is but one."""
    alone = np.asarray(alone, np.float64)
    return alone.std(axis=-1, ddof=1) if alone.shape[-1] > 1 else np.zeros(alone.shape[:-1])


def fit_interval(score: np.ndarray, spread: np.ndarray, mos: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval from scores, spreads and MOS of pictures not trained on, all (N,), in MOS.

    The floor is the median spread, or .01 where the tiles agree; no label takes part in it.

    Raises ValueError for mismatched shapes, values that are not finite, or fewer pictures than 30 or than the level
    needs, `level / (1 - level)`.
    """
    score, spread, mos = (np.asarray(x, np.float64) for x in (score, spread, mos))
    if score.ndim != 1 or not score.shape == spread.shape == mos.shape:
        raise ValueError(f"score {score.shape}, spread {spread.shape} and mos {mos.shape} must all have the shape (N,)")
    if not all(np.isfinite(x).all() for x in (score, spread, mos)):
        raise ValueError("score, spread and mos must be finite")
    rank = math.ceil((len(mos) + 1) * level)
    if len(mos) < FEWEST or rank > len(mos):
        raise ValueError(f"{len(mos)} pictures are too few for an interval that holds {level:.0%}")
    floor = max(float(np.median(spread)), 0.01)
    factor = float(np.sort(np.abs(mos - score) / (spread + floor))[rank - 1])
    return Interval(level, max(factor, 1e-6), floor)
