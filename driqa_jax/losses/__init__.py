"""Losses: pure functions on global arrays. They gather nothing and know no mesh; the caller gathers.

Every loss computes in float32 at least, and raises ValueError if an argument does not have the documented shape: losses
do not broadcast, because `(B,)` against `(B, 1)` would silently give `(B, B)`.
`quality_loss(params)` is the whole model as a loss on images, for restorers, codecs and generators.
"""

from typing import Any

from driqa_jax.losses.mos import mos_l1, plcc_loss, rank_hinge
from driqa_jax.losses.pretraining import DISTANCES, charbonnier, naming_loss, psnr_loss, supcon
from driqa_jax.losses.rs import RS_LOSSES, ratio, restored_ratio, soft_nce

__all__ = [
    "DISTANCES",
    "RS_LOSSES",
    "charbonnier",
    "mos_l1",
    "naming_loss",
    "plcc_loss",
    "psnr_loss",
    "quality_loss",
    "rank_hinge",
    "ratio",
    "restored_ratio",
    "soft_nce",
    "supcon",
]


def __getattr__(name: str) -> Any:
    """`quality_loss` needs the whole model, which losses must not import; it loads on first use."""
    if name == "quality_loss":
        from driqa_jax.inference.functional import quality_loss

        return quality_loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
