"""Losses: pure functions on global arrays. They gather nothing and know no mesh; the caller does.

`quality_loss(params)` is the whole model as a loss on pictures, for restorers, codecs and generators.
"""

from typing import Any

from driqa_jax.losses.contrast import supcon
from driqa_jax.losses.mos import mos_l1, plcc_loss, rank_hinge, smooth_l1
from driqa_jax.losses.naming import naming_loss
from driqa_jax.losses.restoration import DISTANCES, charbonnier, psnr_loss
from driqa_jax.losses.rs import ratio, restored_ratio, soft_nce

__all__ = [
    "DISTANCES",
    "charbonnier",
    "mos_l1",
    "naming_loss",
    "plcc_loss",
    "psnr_loss",
    "quality_loss",
    "rank_hinge",
    "ratio",
    "restored_ratio",
    "smooth_l1",
    "soft_nce",
    "supcon",
]


def __getattr__(name: str) -> Any:
    """`quality_loss` stands with the scorer, above this room, and is fetched on first use: nothing here imports it."""
    if name == "quality_loss":
        from driqa_jax.inference.quality_loss import quality_loss

        return quality_loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
