"""Recipes: the distributions of degradation chains. `chains.sample_chain` draws from them."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from driqa_jax.degradations.entry import unknown_name
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, find

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(entry.group for entry in DEGRADATIONS))

# Artifacts of too strong a restorer. A pristine image looks better than any of them, even if the type is not `ordered`.
BADLY_RESTORED: tuple[str, ...] = ("over_smoothing", "halo", "ringing")
# KADID-10k's 25 types in its order, from #01.
KADID: tuple[str, ...] = tuple(entry.name for entry in DEGRADATIONS if entry.kadid_levels is not None)

Slot = tuple[float, tuple[str, ...]]  # the probability of the step, and the types to draw it from


@dataclass(frozen=True)
class Recipe:
    """The distribution of one chain: steps of different groups in random order, or the steps of a `sequence`.

    An invalid value raises ValueError, which names the field.
    """

    max_steps: int = 4  # S, the capacity of a chain; with a `sequence`, its length
    # Relative frequencies of 1, 2, ..., max_steps steps; unused with a `sequence`.
    step_weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    p_clean: float = 0.1  # probability of an empty chain
    severity_low: float = 0.1  # bounds of the uniform distribution of severities
    severity_high: float = 1.0
    names: tuple[str, ...] = NAMES  # the types to draw from
    weights: tuple[tuple[str, float], ...] = ()  # relative frequency by type, 1 if absent; a mapping becomes pairs
    # Draw severities uniformly from KADID-10k's five levels instead; types without levels keep the range.
    levels: bool = False
    # In order of application, each with its probability and candidate types. A type may repeat. If empty: random order.
    sequence: tuple[Slot, ...] = ()
    eight_bit: bool = True  # round the final image to multiples of 1/255, like a stored file (for `apply_chains`)

    def __post_init__(self) -> None:
        pairs = self.weights.items() if isinstance(self.weights, Mapping) else self.weights
        object.__setattr__(self, "weights", tuple(sorted((name, float(value)) for name, value in pairs)))
        object.__setattr__(self, "sequence", tuple((float(p), tuple(names)) for p, names in self.sequence))
        for name in (*self.names, *dict(self.weights), *(name for _, names in self.sequence for name in names)):
            find(name)
        low, high, weights = self.severity_low, self.severity_high, dict(self.weights)
        _require(self.names, "names", f"at least one of {', '.join(NAMES)}", self.names)
        _require(all(0.0 <= w < float("inf") for w in weights.values()), "weights", "finite and at least 0", weights)
        _require(any(self.type_weights()), "weights", "above 0 for one of recipe.names (no type to draw)", weights)
        _require(0.0 <= self.p_clean <= 1.0, "p_clean", "in [0, 1]", self.p_clean)
        _require(0.0 <= low <= high <= 1.0, "severity_low, severity_high", "in order, in [0, 1]", (low, high))
        if self.sequence:
            self._check_sequence()
        else:
            self._check_steps()

    def _check_sequence(self) -> None:
        object.__setattr__(self, "max_steps", len(self.sequence))
        for place, (p, names) in enumerate(self.sequence):
            good = 0.0 <= p <= 1.0 and names
            _require(good, f"sequence[{place}]", "a probability and at least one type", (p, names))
        allowed = sorted(itertools.compress(NAMES, self.type_weights()))
        _require(self.drawn(), "sequence", f"steps of types that names and weights allow, {allowed}", self.sequence)

    def _check_steps(self) -> None:
        drawn = {entry.group for entry in itertools.compress(DEGRADATIONS, self.type_weights())}
        needed = f"1 to {len(drawn)}, since a chain holds one type per group and the types form {len(drawn)} groups"
        _require(1 <= self.max_steps <= len(drawn), "max_steps", needed, self.max_steps)
        weights = self.step_weights
        good = len(weights) == self.max_steps and min(weights) >= 0 and sum(weights) > 0
        _require(good, "step_weights", f"{self.max_steps} (max_steps) non-negative weights, not all 0", weights)

    def type_weights(self) -> tuple[float, ...]:
        """The relative frequency of every type of NAMES; 0 if the recipe excludes it."""
        weights = dict(self.weights)
        return tuple(weights.get(name, 1.0) if name in self.names else 0.0 for name in NAMES)

    def drawn(self) -> tuple[str, ...]:
        """The types that a chain can hold, in the order of NAMES."""
        places = {name for _, names in self.sequence for name in names} if self.sequence else self.names
        return tuple(name for name in itertools.compress(NAMES, self.type_weights()) if name in places)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Union["Recipe", "Mixture"]:
        """Build a recipe from a configuration.

        `mixture` gives pairs of a name in RECIPES and its probability; otherwise `name` gives one such name; without
        either, a Recipe's defaults apply. Other keys override fields of the Recipe, or of every part of a mixture;
        None keeps the field. Raises ValueError for an unknown key or name, and for an invalid value.
        """
        known = ["name", "mixture", *(each.name for each in dataclasses.fields(cls))]
        for key in config:
            if key not in known:
                raise unknown_name("recipe key", key, known)
        given = {key: _frozen(value) for key, value in config.items() if value is not None}
        name, mixture = given.pop("name", None), given.pop("mixture", None)
        try:
            if mixture:
                pairs = mixture.items() if isinstance(mixture, Mapping) else mixture
                parts: Any = tuple((_changed(named(part), given), p) for part, p in pairs)
                return Mixture(parts)
            return _changed(named(name) if name else cls(), given)
        except TypeError as error:
            raise ValueError(f"recipe: a value has the wrong type ({error}): {dict(config)}") from error


@dataclass(frozen=True)
class Mixture:
    """Several recipes; each chain comes from one of them. The longest one sets the capacity of a chain.

    Raises ValueError for no part, an invalid probability, or parts that differ in `eight_bit`.
    """

    parts: tuple[tuple[Recipe, float], ...]  # with relative probabilities; a nested mixture is flattened

    def __post_init__(self) -> None:
        flat: list[tuple[Recipe, float]] = []
        for part, p in self.parts:
            inner = part.parts if isinstance(part, Mixture) else ((part, 1.0),)
            flat += [(recipe, p * q / sum(q for _, q in inner)) for recipe, q in inner]
        object.__setattr__(self, "parts", tuple(flat))
        probabilities = [p for _, p in self.parts]
        good = probabilities and min(probabilities) >= 0 and 0 < sum(probabilities) < float("inf")
        _require(good, "mixture", "recipes with non-negative probabilities, not all 0", probabilities)
        depths = [part.eight_bit for part, _ in self.parts]
        _require(len(set(depths)) == 1, "mixture", "recipes that agree in eight_bit; set eight_bit for all", depths)

    @property
    def max_steps(self) -> int:
        """The capacity of a chain."""
        return max(part.max_steps for part, _ in self.parts)

    def drawn(self) -> tuple[str, ...]:
        """The types that a chain can hold, in the order of NAMES."""
        held = {name for part, p in self.parts if p for name in part.drawn()}
        return tuple(name for name in NAMES if name in held)

    @property
    def eight_bit(self) -> bool:
        """As in every part."""
        return self.parts[0][0].eight_bit


def _require(good: object, field_name: str, needed: str, value: Any) -> None:
    if not good:
        raise ValueError(f"recipe.{field_name} must be {needed}, got {value}")


def named(name: str) -> Recipe | Mixture:
    """The recipe called `name`. Raises ValueError, with the available names, if there is none."""
    if name in RECIPES:
        return RECIPES[name]
    raise unknown_name("recipe", name, RECIPES)


def _changed(recipe: Recipe | Mixture, changes: Mapping[str, Any]) -> Recipe | Mixture:
    if isinstance(recipe, Mixture):
        return Mixture(tuple((dataclasses.replace(part, **changes), p) for part, p in recipe.parts))
    return dataclasses.replace(recipe, **changes)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, (list, tuple)) else value


_BLUR = ("gaussian_blur", "lens_blur", "motion_blur")
_NOISE = ("white_noise", "sensor_noise")

_SINGLE, _CHAINS = Recipe(max_steps=1, step_weights=(1.0,)), Recipe()
# Real-ESRGAN (Wang et al. 2021, section 3.3 and figure 2): the classical sequence twice, the second blur with
# probability 0.8, a sinc filter (0.8) near the end. Theirs always rescales, up or down, always applies JPEG in both
# rounds, and puts the sinc filter before or after the second JPEG. Ours puts it last and makes every step optional, so
# that chains of every length occur.
_SECOND_ORDER = Recipe(
    severity_high=0.7,  # eight steps at full strength destroy the image
    sequence=(
        *((0.9, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",))),
        *((0.8, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",)), (0.5, ("ringing",))),
    ),
)
# A photograph of a phone: a fault of the camera, what its development leaves, and the file that is always JPEG.
_CAMERA = (
    "underexposed",
    "overexposed",
    "low_light",
    "out_of_focus",
    "camera_shake",
    "flare_haze",
    "haze",
    "color_cast",
)
_CAMERA_PHONE = Recipe(
    p_clean=0.05,
    severity_high=0.8,  # several steps at full strength destroy the image
    sequence=(
        (1.0, (*_CAMERA, "camera_noise")),
        (0.3, _CAMERA),
        (0.5, ("camera_noise",)),
        (0.3, ("over_smoothing", "high_sharpen", "halo")),
        (0.2, ("resample",)),
        (1.0, ("jpeg",)),
    ),
)

RECIPES: dict[str, Recipe | Mixture] = {
    # One of KADID-10k's distortions at one of its levels, never clean, as KADID-10k was made.
    "kadid": dataclasses.replace(_SINGLE, p_clean=0.0, levels=True, names=KADID),
    # One type of the whole bank at any severity.
    "single": _SINGLE,
    # One or two.
    "pairs": Recipe(max_steps=2, step_weights=(0.7, 0.3)),
    # One to four of different groups, in any order.
    "chains": _CHAINS,
    "second_order": _SECOND_ORDER,
    "mixed": Mixture(((_SINGLE, 0.6), (_CHAINS, 0.3), (_SECOND_ORDER, 0.1))),
    "camera_phone": _CAMERA_PHONE,
    "mixed_camera": Mixture(((_SINGLE, 0.4), (_CHAINS, 0.2), (_SECOND_ORDER, 0.1), (_CAMERA_PHONE, 0.3))),
}
