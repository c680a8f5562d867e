"""Losses: pure functions on global arrays. They gather nothing and know no mesh; the caller does."""

from driqa_jax.losses.contrast import supcon
from driqa_jax.losses.mos import mos_l1, plcc_loss, rank_hinge, smooth_l1
from driqa_jax.losses.naming import naming_loss
from driqa_jax.losses.restoration import charbonnier
from driqa_jax.losses.rs import RS_LOSSES, soft_nce

__all__ = [
    "RS_LOSSES",
    "charbonnier",
    "mos_l1",
    "naming_loss",
    "plcc_loss",
    "rank_hinge",
    "smooth_l1",
    "soft_nce",
    "supcon",
]
