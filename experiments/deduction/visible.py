"""How much of the quality of an image people see lost under each degradation: its visible drop, 0 to 1.

For the types of KADID-10k the drop follows its human means (`human_scale`), interpolated over the severity. The others
have no published means: their drops are ours, set by looking at photographs beside KADID-10k's levels.
"""

import numpy as np

from driqa_jax.degradations.registry import NAMES, find
from driqa_jax.inference.findings import group_of
from experiments.deduction.human_scale import FIDELITY, LEVELS, UNMATCHED, drop

# At severities of .25, .5, .75 and 1.
_OURS: dict[str, tuple[float, ...]] = {
    "sensor_noise": (0.1, 0.25, 0.45, 0.6),
    "low_light": (0.12, 0.35, 0.6, 0.8),
    "haze": (0.08, 0.25, 0.45, 0.6),
    "ringing": (0.1, 0.3, 0.5, 0.65),
    "over_smoothing": (0.1, 0.3, 0.5, 0.65),
    "halo": (0.1, 0.3, 0.5, 0.65),
    "underexposed": (0.1, 0.3, 0.55, 0.75),
    "overexposed": (0.1, 0.3, 0.55, 0.75),
    "out_of_focus": (0.12, 0.35, 0.55, 0.7),
    "camera_shake": (0.12, 0.4, 0.65, 0.8),
    "camera_noise": (0.1, 0.3, 0.5, 0.65),
    "flare_haze": (0.08, 0.25, 0.45, 0.6),
    "color_cast": (0.06, 0.2, 0.35, 0.5),
    "truncated_data": (0.55, 0.65, 0.75, 0.85),
    "wrong_blocks": (0.45, 0.55, 0.65, 0.75),
    "interlace_combing": (0.35, 0.5, 0.6, 0.7),
    "dead_stripe": (0.3, 0.4, 0.5, 0.6),
}
# Ordinary camera output has been resized, subsampled in color and compressed more than once, and nobody minds.
TYPES: tuple[str, ...] = tuple(name for name in NAMES if name in _OURS or find(name).kadid_levels)
# How much of a drop counts for the score: pale colors, casts, contrast and exposure may be intended.
_INTENDED = ("color_saturation_1", "color_cast", *UNMATCHED, "low_light", "underexposed", "overexposed")
SHARES: tuple[float, ...] = tuple(0.5 if name in _INTENDED else 1.0 for name in TYPES)
# Types of one number are named by the same words, so that it does not matter which of them it is.
_CODES = [group_of(name)[0] for name in TYPES]
GROUPS: tuple[int, ...] = tuple(_CODES.index(code) for code in _CODES)
CODES: tuple[str, ...] = tuple(dict.fromkeys(_CODES))
# Of the loss: the means of two types mix two signs, and those of color and tone compare with a reference. A cast is
# easily taken for the light of a scene, and what was sharpened for sharp.
_WEIGHTS = {
    **dict.fromkeys(UNMATCHED, 0.0),
    **dict.fromkeys(FIDELITY, 0.75),
    **{"color_cast": 2.0, "high_sharpen": 1.3, "halo": 1.3},
}
WEIGHTS: tuple[float, ...] = tuple(_WEIGHTS.get(name, 1.0) for name in TYPES)
# What cameras and those who hold them do: the types that may be the reason of a low level.
CAMERA: tuple[str, ...] = (
    *("gaussian_blur", "lens_blur", "motion_blur", "out_of_focus", "camera_shake", "over_smoothing", "denoise"),
    *("white_noise", "sensor_noise", "camera_noise", "low_light", "underexposed", "overexposed"),
    *("haze", "flare_haze", "color_cast", "jpeg", "high_sharpen", "halo", "ringing"),
)


def drop_at(name: str, severity: float) -> float:
    """The visible drop of a type at a severity in [0, 1]. Raises KeyError for a type without one."""
    levels = find(name).kadid_levels
    if levels is None:
        return float(np.interp(severity, [0.0, 0.25, 0.5, 0.75, 1.0], (0.0, *_OURS[name])))
    known = sorted(zip(levels, (drop(name, level) for level in range(LEVELS)), strict=True))
    return float(np.interp(severity, [0.0, *(s for s, _ in known)], [0.0, *(d for _, d in known)]))
