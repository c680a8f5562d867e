"""Split-conformal intervals: wider when per-tile scores disagree, and when the tiles show little of the image."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from driqa_jax.data.views import ViewRule, tile_fractions
from driqa_jax.inference import calibration

LEVEL = 0.9
FEWEST = 30
# Coinciding tiles have no spread, so this many floors replace it. In the widest fifth of BIQ2021's validation fold the
# mean spread is 0.8 floors.
UNKNOWN = 3.0
# MOS. Tiles of photos without a visible fault agree almost exactly in the form "deduction". A floor as small as their
# spread would let a local fault widen the interval to the whole scale.
LEAST_FLOOR = 0.05


class Evidence(NamedTuple):
    """How much of an image its tiles show. Both fields are in [0, 1], of any shape, and 1 at normal sizes.

    `independence`: 1 if two tiles share at most half of their pixels, averaged over pairs; 0 if all tiles coincide.
    `detail`: the share of a tile that holds image pixels instead of mirrored or interpolated ones.
    """

    independence: Any
    detail: Any


FULL = Evidence(1.0, 1.0)


def evidence(height: int, width: int, rule: ViewRule) -> Evidence:
    """The evidence from a (height, width) image with tiles on the rule's grid."""
    if rule.kind == "crop":
        return Evidence(1.0, min(min(height, width) / rule.short, 1.0) ** 2)
    filled = [min(side, rule.tile) for side in (height, width)]
    detail = filled[0] * filled[1] / rule.tile**2
    if rule.tiles == 1:  # one tile has no spread at any size
        return Evidence(1.0, detail)
    # Not rounded to whole pixels, unlike the tiles' corners, so that the overlap is monotonic in the size.
    fractions = tile_fractions(rule.tiles)
    distance = np.abs(fractions[:, None] - fractions[None, :])
    rows, columns = (
        np.clip(1.0 - distance * max(side - rule.tile, 0) / part, 0.0, 1.0).mean()
        for side, part in zip((height, width), filled, strict=True)
    )
    overlap = (rule.tiles * rows * columns - 1) / (rule.tiles - 1)
    return Evidence(float(min(2.0 * (1.0 - overlap), 1.0)), detail)


@dataclasses.dataclass(frozen=True)
class Interval(calibration.PlainValues):
    """Half-width `factor * scale` in MOS that covers the share `level` of images like those of the fit.

    At normal sizes `scale` is `spread + floor`. As the tiles of a smaller image coincide, the spread counts as at least
    up to `UNKNOWN` floors. As a tile holds fewer image pixels, the scale grows with the inverse square root of their
    share, like the standard error of a mean.

    Normalized split-conformal prediction (Lei et al., "Distribution-free predictive inference for regression", 2018,
    section 5.2). The coverage is marginal over images drawn like those of the fit, not per kind of image. Raises
    ValueError for a level outside (0, 1) or a factor or floor that is not positive.
    """

    level: float
    factor: float
    floor: float

    def __post_init__(self):
        values = dataclasses.astuple(self)
        plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if not plain or not all(math.isfinite(value) and value > 0 for value in values) or self.level >= 1:
            raise ValueError(f"interval: level, factor and floor must be positive and level below 1, got {values}")

    def __call__(self, spread: np.ndarray, seen: Evidence = FULL) -> np.ndarray:
        """Half-widths in MOS, float64, at most 1, of the shape of `spread` (from `tile_spread`)."""
        return np.minimum(self.factor * _scale(spread, seen, self.floor), 1.0)


def lacking(count: int) -> str:
    """A warning about what `driqa export` cannot fit on `count` validation images; "" if they suffice."""
    if count >= FEWEST:
        return ""
    missing = "interval" if count >= calibration.FEWEST else "calibration and no interval"
    images = "1 image" if count == 1 else f"{count} images"
    return (
        f"warning: {images} to validate on; a calibration needs {calibration.FEWEST}, an interval {FEWEST}, so what "
        f"`driqa export` writes has no {missing}. Add ratings (the fold is a tenth of them), or choose a larger part "
        "with --config.data.val"
    )


def tile_spread(per_tile: np.ndarray) -> np.ndarray:
    """Sample standard deviation of per-tile scores (..., K) over the last axis; 0 if K is 1."""
    per_tile = np.asarray(per_tile, np.float64)
    return per_tile.std(axis=-1, ddof=1) if per_tile.shape[-1] > 1 else np.zeros(per_tile.shape[:-1])


def _scale(spread, seen, floor):
    spread = np.maximum(np.asarray(spread, np.float64), (1.0 - np.asarray(seen.independence)) * UNKNOWN * floor)
    return (spread + floor) / np.sqrt(seen.detail)


def fit_interval(
    score: np.ndarray, spread: np.ndarray, mos: np.ndarray, level: float = LEVEL, seen: Evidence = FULL
) -> Interval:
    """The interval from scores, spreads and MOS (N,), all in MOS, of images outside the training set.

    The floor is the median spread, at least `LEAST_FLOOR`; it does not depend on the labels.

    Raises ValueError for mismatched shapes, non-finite values, or fewer images than 30 or `level / (1 - level)`.
    """
    score, spread, mos = (np.asarray(x, np.float64) for x in (score, spread, mos))
    if score.ndim != 1 or not score.shape == spread.shape == mos.shape:
        raise ValueError(f"score, spread and mos must be (N,), got {score.shape} {spread.shape} {mos.shape}")
    if not all(np.isfinite(x).all() for x in (score, spread, mos)):
        raise ValueError("score, spread and mos must be finite")
    rank = math.ceil((len(mos) + 1) * level)
    if len(mos) < FEWEST or rank > len(mos):
        raise ValueError(f"{len(mos)} images are too few for an interval that holds {level:.0%}")
    floor = max(float(np.median(spread)), LEAST_FLOOR)
    factor = float(np.sort(np.abs(mos - score) / _scale(spread, seen, floor))[rank - 1])
    return Interval(level, max(factor, 1e-6), floor)
