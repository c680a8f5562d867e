"""Degradations on the device: pure functions (key, image, severity) -> image, and chains of them."""

from driqa_jax.degradations.chains import CLEAN, Chain, apply_chains, labels, sample_chain, sample_chains
from driqa_jax.degradations.entry import Degradation
from driqa_jax.degradations.recipes import RECIPES, Mixture, Recipe
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, apply

__all__ = [
    "CLEAN",
    "DEGRADATIONS",
    "NAMES",
    "RECIPES",
    "Chain",
    "Degradation",
    "Mixture",
    "Recipe",
    "apply",
    "apply_chains",
    "labels",
    "sample_chain",
    "sample_chains",
]
