"""Recipes: what chains of degradations are drawn from. How they are drawn stands in `sampling`."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, find

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(entry.group for entry in DEGRADATIONS))

# What restorers leave where they do too much; even of a type that is not `ordered` a pristine photograph looks better.
BADLY_RESTORED: tuple[str, ...] = ("over_smoothing", "halo", "ringing")
# KADID-10k's 25 types in its order: the first is #01.
KADID: tuple[str, ...] = (
    *("gaussian_blur", "lens_blur", "motion_blur"),
    *("color_diffusion", "color_shift", "color_quantization", "color_saturation_1", "color_saturation_2"),
    *("jpeg2000", "jpeg"),
    *("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise", "denoise"),
    *("brighten", "darken", "mean_shift"),
    *("jitter", "non_eccentricity_patch", "pixelate", "quantization", "color_block"),
    *("high_sharpen", "contrast_change"),
)

Slot = tuple[float, tuple[str, ...]]  # the probability that the step is there, and the types to draw it from


@dataclass(frozen=True)
class Recipe:
    """How chains are drawn: steps in random order, one of a group; or, with a `sequence`, steps in that order.

    max_steps: S, the steps a chain has room for; the length of the `sequence` where there is one.
    step_weights: relative frequency of 1, 2, ... max_steps steps; unused with a `sequence`.
    p_clean: probability that a chain is empty.
    severity_low, severity_high: severities are uniform between them.
    names: the types to draw from.
    weights: relative frequency of types, 1 for those not named; a mapping, kept as sorted pairs.
    levels: severities are KADID-10k's five levels, each equally often, whatever the range above; types that have
      none keep the range.
    sequence: steps in the order in which they are applied, each a probability of being there and the types it
      is drawn from; a type may come again in a later step. Empty: order is drawn.
    eight_bit: round the final picture to multiples of 1/255, as a stored file is (hand it to `apply_chains`).

    Raises ValueError, naming the field, for what cannot be drawn.
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
            raise ValueError(f"recipe.names is empty; give some of {', '.join(NAMES)}")
        if any(not 0.0 <= value < float("inf") for _, value in self.weights):
            raise ValueError(f"recipe.weights is {dict(self.weights)}; give numbers of at least 0")
        if not any(self.type_weights()):
            raise ValueError("recipe.weights leaves no type to draw; give one of the names a weight above 0")
        if not 0.0 <= self.p_clean <= 1.0:
            raise ValueError(f"recipe.p_clean is {self.p_clean}; give a probability")
        if not 0.0 <= self.severity_low <= self.severity_high <= 1.0:
            raise ValueError(
                f"recipe.severity_low, severity_high are {self.severity_low}, {self.severity_high}; "
                "give 0 <= low <= high <= 1"
            )
        if self.sequence:
            self._check_sequence()
        else:
            self._check_steps()

    def _check_sequence(self) -> None:
        object.__setattr__(self, "max_steps", len(self.sequence))
        for place, (p, names) in enumerate(self.sequence):
            if not 0.0 <= p <= 1.0 or not names:
                raise ValueError(f"recipe.sequence[{place}] is {(p, names)}; give a probability and at least one type")
        drawn = {name for name, weight in zip(NAMES, self.type_weights(), strict=True) if weight}
        if not any(drawn.intersection(names) for _, names in self.sequence):
            raise ValueError("recipe.names and recipe.weights leave no type of recipe.sequence to draw")

    def _check_steps(self) -> None:
        drawn = {entry.group for entry, weight in zip(DEGRADATIONS, self.type_weights(), strict=True) if weight}
        if not 1 <= self.max_steps <= len(drawn):
            raise ValueError(
                f"recipe.max_steps is {self.max_steps}; a chain takes one of a group and the names given "
                f"form {len(drawn)} groups: give 1 to {len(drawn)}"
            )
        if len(self.step_weights) != self.max_steps or min(self.step_weights) < 0 or sum(self.step_weights) <= 0:
            raise ValueError(
                f"recipe.step_weights is {self.step_weights}; give {self.max_steps} (max_steps) weights, "
                "none negative, not all 0"
            )

    def type_weights(self) -> tuple[float, ...]:
        """The relative frequency of every type of NAMES; 0 for one that is not drawn."""
        weights = dict(self.weights)
        return tuple(weights.get(name, 1.0) if name in self.names else 0.0 for name in NAMES)

    def drawn(self) -> tuple[str, ...]:
        """The types that a chain can hold."""
        places = {name for _, names in self.sequence for name in names} if self.sequence else set(self.names)
        return tuple(name for name, w in zip(NAMES, self.type_weights(), strict=True) if w and name in places)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Union["Recipe", "Mixture"]:
        """The recipe that a mapping asks for.

        `mixture` gives pairs of a name of RECIPES and its probability, or else `name` gives one such name;
        without either, a Recipe's defaults. The other keys are fields of Recipe and change it, or every part of a
        mixture; None leaves what is there. Raises ValueError for an unknown key or name, and for a bad value.
        """
        known = ["name", "mixture", *(each.name for each in dataclasses.fields(cls))]
        unknown = [key for key in config if key not in known]
        if unknown:
            near = difflib.get_close_matches(str(unknown[0]), known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"recipe has no {', '.join(map(repr, unknown))} (the nearest is {near!r}); "
                f"its keys are {', '.join(known)}"
            )
        given = {key: _frozen(value) for key, value in config.items() if value is not None}
        name, mixture = given.pop("name", None), given.pop("mixture", None)
        try:
            if mixture:
                pairs = mixture.items() if isinstance(mixture, Mapping) else mixture
                parts: Any = tuple((_changed(named(part), given), p) for part, p in pairs)
                return Mixture(parts)
            return _changed(named(name) if name else cls(), given)
        except TypeError as error:
            raise ValueError(f"recipe: a value is of a wrong type ({error}): {dict(config)}") from error


@dataclass(frozen=True)
class Mixture:
    """Several recipes; each chain is drawn from one of them.

    parts: recipes with their probabilities, which are scaled to sum 1; a mixture among them gives its own parts.
    Chains have room for the longest part.
    Raises ValueError for no part, a bad probability, or parts that differ in `eight_bit`.
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
            raise ValueError(f"recipe.mixture has probabilities {probabilities}; none negative, not all 0")
        if len({part.eight_bit for part, _ in self.parts}) > 1:
            raise ValueError("recipe.mixture joins recipes with and without eight_bit; set it for all")

    @property
    def max_steps(self) -> int:
        """The steps that a chain has room for."""
        return max(part.max_steps for part, _ in self.parts)

    def drawn(self) -> tuple[str, ...]:
        """The types that a chain can hold."""
        held = {name for part, p in self.parts if p for name in part.drawn()}
        return tuple(name for name in NAMES if name in held)

    @property
    def eight_bit(self) -> bool:
        """As in the parts."""
        return self.parts[0][0].eight_bit


def named(name: str) -> Recipe | Mixture:
    """The recipe of this name. Raises ValueError, with the names there are, for another."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(str(name), RECIPES, n=1, cutoff=0.0)[0]
    raise ValueError(f"no recipe is called {name!r}; did you mean {near!r}? All names: {', '.join(RECIPES)}")


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
# probability .8, a sinc filter (.8) near the end. Theirs rescales always and up or down, keeps JPEG in both rounds
# and ends with the sinc filter before or after the second JPEG; ours has it after, and no step is certain, so that
# chains of every length occur.
_SECOND_ORDER = Recipe(
    severity_high=0.7,  # eight steps at full strength leave nothing of a photograph
    sequence=(
        *((0.9, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",))),
        *((0.8, _BLUR), (0.7, ("resample",)), (0.9, _NOISE), (0.9, ("jpeg",))),
        (0.5, ("ringing",)),
    ),
)

RECIPES: dict[str, Recipe | Mixture] = {
    # One of KADID-10k's distortions at one of its levels, never clean: as that set was made.
    "kadid": dataclasses.replace(
        _SINGLE, p_clean=0.0, levels=True, names=tuple(name for name in KADID if name in NAMES)
    ),
    # One distortion of the whole bank, any severity.
    "single": _SINGLE,
    # One or two.
    "pairs": Recipe(max_steps=2, step_weights=(0.7, 0.3)),
    # One to four, one of a group, in any order.
    "chains": _CHAINS,
    "second_order": _SECOND_ORDER,
    "mixed": Mixture(((_SINGLE, 0.6), (_CHAINS, 0.3), (_SECOND_ORDER, 0.1))),
}
