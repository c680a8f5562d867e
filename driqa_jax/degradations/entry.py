"""One type of degradation, and the decorator that declares it beside its function."""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

Degrade = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Levels = Iterable[float] | None


@dataclass(frozen=True)
class Degradation:
    """One type of degradation."""

    name: str  # of the function, as in KADID-10k if KADID-10k has the type
    group: str  # a chain holds at most one type of each group
    fn: Degrade  # pure, see `degradation`
    ordered: bool = True  # whether a higher severity always looks worse to people; rank supervision uses only these
    kadid_levels: tuple[float, ...] | None = None  # the severities of KADID-10k's levels 1 to 5, if it has the type
    # Whether the key draws a parameter (an angle, a sign) that all images of a chain share. Otherwise the key draws
    # pixels, and each image has its own key.
    chain_key: bool = False


_DECLARED: dict[int, Degradation] = {}


def degradation(
    index: int, group: str, *, ordered: bool = True, kadid_levels: Levels = None, chain_key: bool = False
) -> Callable[[Degrade], Degrade]:
    """Declare a function as degradation number `index`; it stays an ordinary function.

    The function maps a random key, an image (H, W, 3) float32 sRGB in [0, 1] with sides of at least 32, and a scalar
    severity in [0, 1] to an image of the same shape, dtype and range. Severity 0 is the identity. The severity may be
    traced, so all shapes must be independent of it. A function may ignore its key.

    `index` is the place in `NAMES`. Trained weights store it as the class index, so a released index never changes; a
    new type takes the next free one, and an index in use raises ValueError. `Degradation` describes the other
    arguments; levels are rounded to 4 digits.
    """

    def declare(fn: Degrade) -> Degrade:
        if index in _DECLARED:
            taken = f"index {index} already belongs to {_DECLARED[index].name!r}; use the next free index"
            raise ValueError(f"degradation {fn.__name__!r}: {taken}")
        levels = None if kadid_levels is None else tuple(round(level, 4) for level in kadid_levels)
        _DECLARED[index] = Degradation(fn.__name__, group, fn, ordered, levels, chain_key)
        return fn

    return declare


def declared() -> tuple[Degradation, ...]:
    """All declared degradations by index. Raises ValueError if the indices have a gap or two types share a name."""
    names = {index: _DECLARED[index].name for index in sorted(_DECLARED)}
    if list(names) != list(range(len(names))) or len(set(names.values())) != len(names):
        raise ValueError(f"degradations must have unique names and the indices 0, 1, 2, ... without a gap, got {names}")
    return tuple(_DECLARED[index] for index in names)


def severities(values: Iterable[float], full: float, power: float = 1.0) -> list[float]:
    """The severities s at which `full * s**power` equals each value."""
    return [(value / full) ** (1 / power) for value in values]


def on_scale(severity: jax.Array | float, first: float, last: float) -> jax.Array:
    """A strength that grows geometrically with the severity, from `first` at 0 to `last` at 1; float32."""
    return first * (last / first) ** jnp.asarray(severity, jnp.float32)


def scale_severities(values: Iterable[float], first: float, last: float) -> list[float]:
    """The severities at which `on_scale` gives each value."""
    return [math.log(value / first) / math.log(last / first) for value in values]


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> ValueError:
    """The error for a `name` of this `kind` that is not among `choices`; it suggests the closest one."""
    choices = tuple(choices)
    closest = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.0)[0]
    return ValueError(f"unknown {kind} {name!r}; did you mean {closest!r}? Must be one of {', '.join(choices)}")
