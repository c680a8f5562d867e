"""Split-conformal intervals around scores: wider where a photo's tiles disagree, and where they show little of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from driqa_jax.data.views import ViewRule, tile_fractions
from driqa_jax.inference import calibration

LEVEL = 0.9
FEWEST = 30
# Where all tiles coincide their spread says nothing, and this many floors stand in for it. In the widest fifth of
# BIQ2021's validation fold the mean spread is 0.8 floors.
UNKNOWN = 3.0


class Evidence(NamedTuple):
    """How much of a picture its tiles show; both fields in [0, 1], of any shape, and 1 at normal sizes.

    `independence`: 1 where two tiles have at most half of their pixels in common, averaged over pairs; 0 where all
    tiles coincide. `detail`: the share of a tile that is picture, and not its mirror image or interpolated.
    """

    independence: Any
    detail: Any


FULL = Evidence(1.0, 1.0)


def evidence(height: int, width: int, rule: ViewRule) -> Evidence:
    """The evidence that a (height, width) picture gives under a rule, with tiles on the rule's grid."""
    if rule.kind == "crop":
        return Evidence(1.0, min(min(height, width) / rule.short, 1.0) ** 2)
    held = [min(side, rule.tile) for side in (height, width)]
    detail = held[0] * held[1] / rule.tile**2
    if rule.tiles == 1:  # one tile has no spread, at any size
        return Evidence(1.0, detail)
    # Not rounded to whole pixels as the tiles' corners are, so that the overlap falls steadily with the size.
    fractions = tile_fractions(rule.tiles)
    distance = np.abs(fractions[:, None] - fractions[None, :])
    rows, columns = (
        np.clip(1.0 - distance * max(side - rule.tile, 0) / part, 0.0, 1.0).mean()
        for side, part in zip((height, width), held, strict=True)
    )
    overlap = (rule.tiles * rows * columns - 1) / (rule.tiles - 1)
    return Evidence(float(min(2.0 * (1.0 - overlap), 1.0)), detail)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Half a width, `factor * scale` in MOS: `level` of photos like those of the fit lie within.

    `scale` is `spread + floor` for a photo of normal size. Where the tiles of a smaller one coincide more and more, the
    spread is taken to be at least `UNKNOWN` floors in the end; where a tile holds less and less picture, the scale
    grows as the standard error of a mean does, with the square root of the pixels that are missing.

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

    def __call__(self, spread: np.ndarray, seen: Evidence = FULL) -> np.ndarray:
        """Half of the width in MOS, float64, of any shape, at most 1; spread: as `tile_spread` gives it."""
        return np.minimum(self.factor * _scale(spread, seen, self.floor), 1.0)

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
    """What `driqa export` cannot fit on `count` validation images, and what to do; "" if they are enough."""
    if count >= FEWEST:
        return ""
    without = "interval" if count >= calibration.FEWEST else "calibration and no interval"
    images = "1 image" if count == 1 else f"{count} images"
    return (
        f"warning: {images} to validate on; a calibration needs {calibration.FEWEST}, an interval {FEWEST}, so what "
        f"`driqa export` writes has no {without}. Add ratings (the fold is a tenth of them), or choose a larger part "
        "with --config.data.val"
    )


def tile_spread(alone: np.ndarray) -> np.ndarray:
    """The standard deviation over the last axis of scores from single tiles (..., K); 0 where there is but one."""
    alone = np.asarray(alone, np.float64)
    return alone.std(axis=-1, ddof=1) if alone.shape[-1] > 1 else np.zeros(alone.shape[:-1])


def _scale(spread, seen, floor):
    spread = np.maximum(np.asarray(spread, np.float64), (1.0 - np.asarray(seen.independence)) * UNKNOWN * floor)
    return (spread + floor) / np.sqrt(seen.detail)


def fit_interval(
    score: np.ndarray, spread: np.ndarray, mos: np.ndarray, level: float = LEVEL, seen: Evidence = FULL
) -> Interval:
    """The interval from scores, spreads and MOS of pictures not trained on, all (N,), in MOS; `seen` of each, too.

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
    factor = float(np.sort(np.abs(mos - score) / _scale(spread, seen, floor))[rank - 1])
    return Interval(level, max(factor, 1e-6), floor)
