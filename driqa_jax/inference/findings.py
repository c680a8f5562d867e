"""What stands out in a photo, in a photographer's words: groups of degradations, how visible they are, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from driqa_jax.inference.labels import STANDS_OUT, label

# Code of a group -> words -> types of degradation. The words of a finding are those of its most prominent type.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "blur": {
        "out of focus": ("gaussian_blur", "lens_blur", "out_of_focus"),
        "camera shake": ("motion_blur", "camera_shake"),
        "low resolution": ("resample", "pixelate"),
    },
    "noise": {
        "noise": (
            *("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
            *("sensor_noise", "camera_noise"),
        )
    },
    "exposure": {
        "too dark": ("darken", "low_light", "underexposed"),
        "blown highlights": ("brighten", "overexposed"),
        "wrong brightness": ("mean_shift",),
    },
    "color": {
        "wrong colors": ("color_shift", "color_cast", "color_diffusion"),
        "pale colors": ("color_saturation_1",),
        "too colorful": ("color_saturation_2",),
    },
    "haze": {"haze or flat contrast": ("haze", "flare_haze", "contrast_change")},
    "compression": {
        "compression": ("jpeg", "jpeg2000", "double_jpeg", "chroma_subsampling"),
        "too few colors": ("quantization", "color_quantization"),
    },
    "damage": {
        "damaged file": (
            *("jitter", "non_eccentricity_patch", "color_block"),
            *("truncated_data", "wrong_blocks", "interlace_combing", "dead_stripe"),
        )
    },
    "processing": {"over-processed": ("high_sharpen", "halo", "ringing", "over_smoothing", "denoise")},
}
_PLACES = {name: (code, words) for code, kinds in GROUPS.items() for words, names in kinds.items() for name in names}

MOST = 3  # findings of a photo
NOTHING = "Nothing stands out"
# From these strengths a finding is "clear" and "strong", else "faint". A strength is a visible drop: .3 of it takes the
# human mean of KADID-10k from 4.6 to 3.5, between the impairments "perceptible, but not annoying" (4) and "slightly
# annoying" (3) of ITU-R BT.500, and .6 to 2.4, between that and "annoying" (2). A type without a drop has its severity.
CLEAR, STRONG = 0.3, 0.6
EVERYWHERE = 0.6  # the share of the tiles from which a finding is everywhere
_HELD = 0.8  # the share of a finding's tiles that lies in the part of the photo that is named
_QUARTERS = {
    "upper left": (0.0, 0.0, 0.5, 0.5),
    "upper right": (0.0, 0.5, 0.5, 1.0),
    "lower left": (0.5, 0.0, 1.0, 0.5),
    "lower right": (0.5, 0.5, 1.0, 1.0),
}
_CENTER = {"center": (0.2, 0.2, 0.8, 0.8)}
_HALVES = {
    "upper half": (0.0, 0.0, 0.5, 1.0),
    "lower half": (0.5, 0.0, 1.0, 1.0),
    "left half": (0.0, 0.0, 1.0, 0.5),
    "right half": (0.0, 0.5, 1.0, 1.0),
}
_FINE = 9  # tiles from which a center can be told from quarters


class Tiles(NamedTuple):
    """What K tiles show of T types: `boxes` (K, 4), y0, x0, y1, x1 in fractions of the photo; `prominence` and
    `strength` (K, T) in [0, 1], see `driqa_jax.inference.program.seen`."""

    boxes: np.ndarray
    prominence: np.ndarray
    strength: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fault:
    """A group of degradations that stands out.

    Attributes:
      group: a code of `GROUPS`, or the name of a type of none of them.
      words: what a photographer calls it.
      probability: in [0, 1], the largest prominence of its types. Types of a group are alternatives that a model
        confuses, not independent faults, and each has a prominence above 0 in a sound photo, so that their joint
        probability, 1 - prod(1 - p), would grow with the number of types.
      visible: "faint", "clear" or "strong", from `CLEAR` and `STRONG`.
      where: the part of the photo, "everywhere" or "in places"; "" if the model says nothing about single tiles.
      types: names of its types that stand out, most prominent first.
    """

    group: str
    words: str
    probability: float
    visible: str
    where: str
    types: tuple[str, ...]

    @property
    def details(self) -> str:
        """How visible and where, for display."""
        return f"{self.visible}, {self.where}" if self.where else self.visible

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "probability": round(self.probability, 4), "types": list(self.types)}


def group_of(name: str) -> tuple[str, str]:
    """The code and the words of a type of degradation; a type of no group is a group."""
    return _PLACES.get(name, (name, label(name)))


def grouped(names: Sequence[str], prominence: np.ndarray, threshold: float = STANDS_OUT) -> dict[str, list[int]]:
    """The at most `MOST` groups that stand out, most prominent first: code -> places of its types in `names`.

    `prominence` (T,) in [0, 1]: see `driqa_jax.inference.program.seen`. A group stands out from `threshold` on.
    """
    groups: dict[str, list[int]] = {}
    for i in np.argsort(-prominence, kind="stable").tolist():
        if prominence[i] >= threshold:
            groups.setdefault(group_of(names[i])[0], []).append(i)
    return dict(list(groups.items())[:MOST])


def find_faults(
    names: Sequence[str],
    prominence: np.ndarray,
    strength: np.ndarray,
    tiles: Tiles | None = None,
    threshold: float = STANDS_OUT,
) -> tuple[Fault, ...]:
    """The groups of `grouped` with their strength and place; possibly none.

    `prominence`, `strength` (T,): of the whole photo. With `tiles`, the place and the strength are those of the tiles
    in which one of the group's types reaches the threshold.
    """
    faults = []
    for code, members in grouped(names, prominence, threshold).items():
        lead, where = members[0], ""
        amount = float(strength[lead])
        if tiles is not None:
            carry = tiles.prominence[:, members].max(axis=1) >= threshold
            carry[tiles.prominence[:, lead].argmax()] = True  # rounding must not leave a finding without a tile
            where, amount = place(tiles.boxes, carry), float(tiles.strength[carry][:, members].max(axis=1).mean())
        visible = "strong" if amount >= STRONG else "clear" if amount >= CLEAR else "faint"
        types = tuple(names[i] for i in members)
        faults.append(Fault(code, group_of(names[lead])[1], float(prominence[lead]), visible, where, types))
    return tuple(faults)


def place(boxes: np.ndarray, carry: np.ndarray) -> str:
    """The words for where the tiles of `boxes` (K, 4) lie that `carry` (K,) bool marks, at least one.

    It is everywhere from `EVERYWHERE` of the tiles on, else the smallest part of the photo that holds `_HELD` of them.
    """
    if carry.mean() >= EVERYWHERE:
        return "everywhere"
    # Tiles of a small photo overlap, so their cells in the grid count.
    ranks = [np.unique(side, return_inverse=True) for side in boxes[:, :2].T]
    centers = np.stack([(rank + 0.5) / len(values) for values, rank in ranks], axis=1)
    middle = centers[carry].mean(axis=0)
    fine = len(boxes) >= _FINE

    def inside(part: tuple[float, ...]) -> np.ndarray:
        return ((centers >= part[:2]) & (centers <= part[2:])).all(axis=1)

    for parts in ({**_QUARTERS, **(_CENTER if fine else {})}, _HALVES):
        held = {name: part for name, part in parts.items() if inside(part)[carry].mean() >= _HELD}
        if held:
            return min(held, key=lambda name: float(np.hypot(*(np.add(held[name][:2], held[name][2:]) / 2 - middle))))
    return "edges" if fine and 1 - inside(_CENTER["center"])[carry].mean() >= _HELD else "in places"


def codes(names: Sequence[str], prominence: np.ndarray) -> tuple[str, ...]:
    """The codes of the groups that stand out, most prominent first, such as ("blur", "noise"); possibly none."""
    return tuple(grouped(names, prominence))
