"""Training of `DeductionHead` on kept features: first the level on rated photographs, then the drops under it."""

from collections.abc import Sequence

from driqa_jax.models.deduction import DeductionHead
from experiments.deduction.drops import Examples, fit_drops
from experiments.deduction.level import Rated, fit_levels
from experiments.deduction.training import Recipe, ReportFn, unreported


def fit(
    head: DeductionHead,
    rated: Rated,
    examples: Examples,
    weights: Sequence[float],
    recipe: Recipe,
    report: ReportFn = unreported,
) -> dict:
    """Parameters of the trained head.

    `weights` (T,): of each type's loss. Equal input and recipe give equal parameters on one machine. Raises ValueError
    if array lengths disagree.
    """
    if len(rated.moments) != len(rated.mos):
        raise ValueError(f"rated: {len(rated.moments)} moments and {len(rated.mos)} scores; give as many of each")
    if head.level_width % recipe.models:
        raise ValueError(f"level_width must be a multiple of models={recipe.models}, got {head.level_width}")
    if len({len(x) for x in examples}) != 1:
        raise ValueError(f"examples: arrays have lengths {[len(x) for x in examples]}; give equal lengths")
    return fit_drops(head, fit_levels(head, rated, recipe, report), examples, weights, recipe, report)
