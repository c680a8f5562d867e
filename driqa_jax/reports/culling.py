"""Rank the shots of each group, propose what to keep and to reject, and say why in words relative to the group."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from driqa_jax.data.bursts import group_shots
from driqa_jax.data.photo_facts import Facts

COLUMNS = ("path", "group", "rank", "score", "choice", "reasons", "error")
KEEP, REJECT, OPEN = "keep", "reject", ""
# Degradations that mean one thing to a photographer.
FAMILIES = {
    "blur": (
        *("gaussian_blur", "lens_blur", "motion_blur", "denoise", "over_smoothing", "resample", "pixelate"),
        *("out_of_focus", "camera_shake"),
    ),
    "noise": (
        *("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
        *("sensor_noise", "low_light", "camera_noise"),
    ),
    "compression": ("jpeg", "jpeg2000", "double_jpeg", "color_block"),
    "sharpening": ("high_sharpen", "halo", "ringing"),
    "bright": ("brighten", "overexposed"),
    "dark": ("darken", "low_light", "underexposed"),
    "color": (
        *("color_diffusion", "color_shift", "color_saturation_1", "color_saturation_2", "haze"),
        *("color_cast", "flare_haze"),
    ),
    "damage": ("truncated_data", "wrong_blocks", "interlace_combing", "dead_stripe"),
}


# Points per unit of expected severity, or per share of clipped pixels, fitted with `lite-0.5` on 300 bursts made of
# photos of BIQ2021 (`python -m experiments.cull`); the bursts that docs/CULL.md reports are others.
_EXPOSURE, _CONTRAST, _COMPRESSED, _CLIPPED = 100.0, 40.0, 10.0, 10.0
_WRONG_EXPOSURE = ("brighten", "overexposed"), ("darken", "underexposed")  # of each pair the worse one counts


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo that was read: `findings` maps a degradation to (probability, severity); empty for a single photo."""

    path: str
    score: float
    facts: Facts
    findings: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rule:
    """What to propose.

    keep: photos of a group to keep. margin: a photo that scores this many points below the best is a clear reject.
    floor: so is any photo with a lower score.
    """

    keep: int = 1
    margin: float = 15.0
    floor: float = 20.0


@dataclasses.dataclass(frozen=True)
class Choice:
    """A row of the result; `COLUMNS` names its columns. Groups count from 1; single and failed photos have none."""

    path: str
    group: int | None
    rank: int | None
    score: float | None
    choice: str
    reasons: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values by column."""
        return {**dataclasses.asdict(self), "reasons": list(self.reasons)}

    def to_row(self) -> list[str]:
        """CSV cells by column; reasons are joined by semicolons."""
        numbers = ["" if value is None else str(value) for value in (self.group, self.rank)]
        score = "" if self.score is None else f"{self.score:.2f}"
        return [self.path, *numbers, score, self.choice, "; ".join(self.reasons), self.error or ""]


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """One thing to compare: how much of a fault a photo has, the least difference that counts, and the words.

    A neutral one is a difference, not a fault.
    """

    fault: Callable[[Photo], float]
    least: float
    better: str
    worse: str
    neutral: bool = False


def _expected(photo: Photo, kind: str) -> float:
    """The expected severity in [0, 1]; for visible drops the drop times the probability that a person sees it."""
    probability, severity = photo.findings.get(kind, (0.0, 0.0))
    return probability * severity


def _family(name: str) -> Callable[[Photo], float]:
    """The largest expected severity among the degradations of a family."""
    return lambda photo: max(_expected(photo, kind) for kind in FAMILIES[name])


_BRIGHT, _DARK = ("less overexposed", "overexposed"), ("less dark", "too dark")
_EXPOSED = {*_BRIGHT, *_DARK}
# Contrast and brightness are the standard deviation and the mean of the gray levels, 0 to 255.
_COMPARISONS = (
    _Comparison(_family("blur"), 0.1, "sharper", "less sharp"),
    _Comparison(_family("noise"), 0.1, "less noise", "more noise"),
    _Comparison(lambda photo: photo.facts.highlights, 0.01, "highlights kept", "highlights lost"),
    _Comparison(lambda photo: photo.facts.shadows, 0.02, "shadows kept", "shadows lost"),
    _Comparison(_family("bright"), 0.05, *_BRIGHT),
    _Comparison(_family("dark"), 0.05, *_DARK),
    _Comparison(lambda photo: -float(photo.facts.thumbnail.std()), 12.0, "more contrast", "less contrast"),
    _Comparison(_family("compression"), 0.25, "less compressed", "more compressed"),
    _Comparison(_family("sharpening"), 0.1, "less oversharpened", "oversharpened"),
    _Comparison(_family("color"), 0.1, "truer colors", "colors off"),
    _Comparison(_family("damage"), 0.1, "intact", "damaged"),
    _Comparison(lambda photo: -float(photo.facts.thumbnail.mean()), 25.0, "brighter", "darker", neutral=True),
)


def grouped(photos: Sequence[Photo]) -> list[list[Photo]]:
    """The groups of photos, ordered by path, as `driqa_jax.data.bursts.group_shots` finds them."""
    ordered = sorted(photos, key=lambda photo: photo.path)
    return [[ordered[row] for row in rows] for rows in group_shots([photo.facts for photo in ordered])]


def choose_all(
    groups: Sequence[Sequence[Photo]], findings: Mapping[str, Mapping[str, tuple[float, float]]], rule: Rule
) -> list[list[Choice]]:
    """The rows of all groups, in their order; groups of several photos are numbered.

    `findings` by path are joined to the photos.
    """
    numbers = itertools.count(1)
    return [
        choose(
            [dataclasses.replace(photo, findings=findings.get(photo.path, {})) for photo in group],
            next(numbers) if len(group) > 1 else None,
            rule,
        )
        for group in groups
    ]


def merit(photo: Photo) -> float:
    """Points by which the photos of a group are ranked: the score less deductions for exposure and compression.

    The score alone follows people across scenes, but it hardly falls when one scene is over- or underexposed.
    """
    clipped = photo.facts.highlights + photo.facts.shadows
    exposure = sum(max(_expected(photo, kind) for kind in kinds) for kinds in _WRONG_EXPOSURE)
    deductions = _EXPOSURE * exposure + _CONTRAST * _expected(photo, "contrast_change")
    return photo.score - deductions - _COMPRESSED * _expected(photo, "jpeg") - _CLIPPED * clipped


def rank(group: Sequence[Photo]) -> list[Photo]:
    """The photos of a group, best first: the highest merit, then the sharpest, then the first name."""
    return sorted(group, key=lambda photo: (-merit(photo), -photo.facts.sharpness, photo.path))


def choose(group: Sequence[Photo], number: int | None, rule: Rule) -> list[Choice]:
    """The rows of group `number`, best first."""
    ranked = rank(group)
    rows = []
    for place, photo in enumerate(ranked, 1):
        if photo.score < rule.floor or (place > 1 and ranked[0].score - photo.score >= rule.margin):
            choice = REJECT
        else:
            choice = KEEP if place <= rule.keep else OPEN
        reasons = list(compare(photo, ranked)) if len(ranked) > 1 else []
        if photo.score < rule.floor:
            reasons.append("very low score")
        rows.append(Choice(photo.path, number, place, photo.score, choice, tuple(reasons)))
    return rows


def compare(photo: Photo, ranked: Sequence[Photo]) -> tuple[str, ...]:
    """What makes a photo better or worse than its rivals: the best photo, or for the best the middle of the others.

    The advantages of the best come first, and the faults of the others. If there is none, the score says it.
    """
    best = photo is ranked[0]
    rivals = ranked[1:] if best else ranked[:1]
    better, worse, neutral = [], [], []
    for one in _COMPARISONS:
        difference = statistics.median(one.fault(rival) for rival in rivals) - one.fault(photo)
        if difference >= one.least:
            (neutral if one.neutral else better).append(one.better)
        elif difference <= -one.least:
            (neutral if one.neutral else worse).append(one.worse)
    if _EXPOSED & {*better, *worse}:
        neutral = []  # that a photo is too dark says that it is darker
    if best:
        return *(better or [_by_score(photo.score - ranked[1].score, "higher")]), *worse, *neutral
    return *(worse or [_by_score(ranked[0].score - photo.score, "lower")]), *better, *neutral


def _by_score(points: float, word: str) -> str:
    return "nearly equal" if points < 1 else f"score {points:.1f} {word}"
