"""Degradations made on the device: pure functions (key, image, severity) -> image, and chains of them."""

from driqa_jax.degradations.recipes import (
    CLEAN,
    Chain,
    Recipe,
    apply_chains,
    labels,
    sample_chain,
    sample_chains,
)
from driqa_jax.degradations.registry import DEGRADATIONS, NAMES, Degradation, apply

__all__ = [
    "CLEAN",
    "DEGRADATIONS",
    "NAMES",
    "Chain",
    "Degradation",
    "Recipe",
    "apply",
    "apply_chains",
    "labels",
    "sample_chain",
    "sample_chains",
]
