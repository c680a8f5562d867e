"""Recipes: the distributions of degradation chains. `sampling` draws from them."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

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

    max_steps: S, the capacity of a chain; with a `sequence`, its length.
    step_weights: relative frequencies of 1, 2, ..., max_steps steps; unused with a `sequence`.
    p_clean: probability of an empty chain.
    severity_low, severity_high: bounds of the uniform distribution of severities.
    names: the types to draw from.
    weights: relative frequency by type, 1 if absent; a mapping, kept as sorted pairs.
    levels: draw severities uniformly from KADID-10k's five levels instead; types without levels keep the range.
    sequence: steps in order of application, each with its probability and its candidate types. A type may repeat. If
      empty, the order is random.
    eight_bit: round the final image to multiples of 1/255, like a stored file (pass it to `apply_chains`).

    Raises:
      ValueError: a field has an invalid value; the message names the field.
    """

    max_steps: int = 4
    step_weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    p_clean: float = 0.1
    severity_low: float = 0.1
    severity_high: float = 1.0
    names: tuple[str, ...] = NAMES
    weights: tuple[tuple[str, float], ...] = field(default=())
    levels: bool = False
    sequence: tuple[Slot, ...] = ()
    eight_bit: bool = True

    def __post_init__(self) -> None:
        pairs = self.weights.items() if isinstance(self.weights, Mapping) else self.weights
        object.__setattr__(self, "weights", tuple(sorted((name, float(value)) for name, value in pairs)))
        object.__setattr__(self, "sequence", tuple((float(p), tuple(names)) for p, names in self.sequence))
        for name in (*self.names, *dict(self.weights), *(name for _, names in self.sequence for name in names)):
            find(name)
        if not self.names:
            raise ValueError(f"recipe.names must have at least one of {', '.join(NAMES)}, got none")
        if any(not 0.0 <= value < float("inf") for _, value in self.weights):
            raise ValueError(f"recipe.weights must be finite and at least 0, got {dict(self.weights)}")
        if not any(self.type_weights()):
            raise ValueError(
                "recipe.weights leaves no type to draw; set a weight above 0 for at least one of recipe.names"
            )
        if not 0.0 <= self.p_clean <= 1.0:
            raise ValueError(f"recipe.p_clean must be in [0, 1], got {self.p_clean}")
        if not 0.0 <= self.severity_low <= self.severity_high <= 1.0:
            raise ValueError(
                "recipe.severity_low and severity_high must satisfy 0 <= low <= high <= 1, "
                f"got {self.severity_low}, {self.severity_high}"
            )
        if self.sequence:
            self._check_sequence()
        else:
            self._check_steps()

    def _check_sequence(self) -> None:
        object.__setattr__(self, "max_steps", len(self.sequence))
        for place, (p, names) in enumerate(self.sequence):
            if not 0.0 <= p <= 1.0 or not names:
                raise ValueError(
                    f"recipe.sequence[{place}] must be a probability and at least one type, got {(p, names)}"
                )
        drawn = {name for name, weight in zip(NAMES, self.type_weights(), strict=True) if weight}
        if not any(drawn.intersection(names) for _, names in self.sequence):
            raise ValueError("recipe.names and recipe.weights leave no type of recipe.sequence to draw")

    def _check_steps(self) -> None:
        drawn = {entry.group for entry, weight in zip(DEGRADATIONS, self.type_weights(), strict=True) if weight}
        if not 1 <= self.max_steps <= len(drawn):
            raise ValueError(
                f"recipe.max_steps must be 1 to {len(drawn)}, got {self.max_steps}: a chain holds one type per group, "
                f"and recipe.names cover {len(drawn)} groups"
            )
        if len(self.step_weights) != self.max_steps or min(self.step_weights) < 0 or sum(self.step_weights) <= 0:
            raise ValueError(
                f"recipe.step_weights must be {self.max_steps} (max_steps) non-negative weights, not all 0, "
                f"got {self.step_weights}"
            )

    def type_weights(self) -> tuple[float, ...]:
        """The relative frequency of every type of NAMES; 0 if the recipe excludes it."""
        weights = dict(self.weights)
        return tuple(weights.get(name, 1.0) if name in self.names else 0.0 for name in NAMES)

    def drawn(self) -> tuple[str, ...]:
        """The types that a chain can hold, in the order of NAMES."""
        places = {name for _, names in self.sequence for name in names} if self.sequence else set(self.names)
        return tuple(name for name, w in zip(NAMES, self.type_weights(), strict=True) if w and name in places)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Union["Recipe", "Mixture"]:
        """Build a recipe from a configuration.

        `mixture` gives pairs of a name in RECIPES and its probability; otherwise `name` gives one such name; without
        either, a Recipe's defaults apply. Other keys override fields of the Recipe, or of every part of a mixture;
        None keeps the field. Raises ValueError for an unknown key or name, and for an invalid value.
        """
        known = ["name", "mixture", *(each.name for each in dataclasses.fields(cls))]
        unknown = [key for key in config if key not in known]
        if unknown:
            near = difflib.get_close_matches(str(unknown[0]), known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"unknown recipe key {', '.join(map(repr, unknown))}; did you mean {near!r}? "
                f"Must be one of {', '.join(known)}"
            )
        given = {key: _frozen(value) for key, value in config.items() if value is not None}
        name, mixture = given.pop("name", None), given.pop("mixture", None)
        try:
            if mixture:
                pairs = mixture.items() if isinstance(mixture, Mapping) else mixture
                return Mixture(tuple((_changed(named(part), given), p) for part, p in pairs))
            return _changed(named(name) if name else cls(), given)
        except TypeError as error:
            raise ValueError(f"recipe: a value has the wrong type ({error}): {dict(config)}") from error


@dataclass(frozen=True)
class Mixture:
    """Several recipes; each chain comes from one of them.

    parts: recipes with their relative probabilities; a nested mixture is flattened. The longest part sets the capacity
      of a chain.

    Raises:
      ValueError: no part, an invalid probability, or parts that differ in `eight_bit`.
    """

    parts: tuple[tuple[Recipe, float], ...]

    def __post_init__(self) -> None:
        flat = [
            (inner, p * q / sum(q for _, q in part.parts)) if isinstance(part, Mixture) else (part, p)
            for part, p in self.parts
            for inner, q in (part.parts if isinstance(part, Mixture) else ((part, 1.0),))
        ]
        object.__setattr__(self, "parts", tuple(flat))
        probabilities = [p for _, p in self.parts]
        if not probabilities or min(probabilities) < 0 or not 0 < sum(probabilities) < float("inf"):
            raise ValueError(f"recipe.mixture must have non-negative probabilities, not all 0, got {probabilities}")
        if len({part.eight_bit for part, _ in self.parts}) > 1:
            raise ValueError("recipe.mixture joins recipes with and without eight_bit; set eight_bit for all of them")

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


def named(name: str) -> Recipe | Mixture:
    """The recipe called `name`. Raises ValueError, with the available names, if there is none."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(str(name), RECIPES, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown recipe {name!r}; did you mean {near!r}? Must be one of {', '.join(RECIPES)}")


def _changed(recipe: Recipe | Mixture, changes: Mapping[str, Any]) -> Recipe | Mixture:
    if isinstance(recipe, Mixture):
        return Mixture(tuple((dataclasses.replace(part, **changes), p) for part, p in recipe.parts))
    return dataclasses.replace(recipe, **changes)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, (list, tuple)) else value


_BLUR = ("gaussian_blur", "lens_blur", "motion_blur")
_NOISE = ("white_noise", "sensor_noise")

_SINGLE = Recipe(max_steps=1, step_weights=(1.0,))
_CHAINS = Recipe()
# Real-ESRGAN (Wang et al. 2021, section 3.3 and figure 2): the classical sequence twice, the second blur with
# probability 0.8, a sinc filter (0.8) near the end. Theirs always rescales, up or down, always applies JPEG in both
# rounds, and puts the sinc filter before or after the second JPEG. Ours puts it last and makes every step optional, so
# that chains of every length occur.
_SECOND_ORDER = Recipe(
    severity_high=0.7,  # eight steps at full strength destroy the image
    sequence=(
        *((0.9, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",))),
        *((0.8, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",))),
        (0.5, ("ringing",)),
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
}
