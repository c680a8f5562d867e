"""The model as a loss: how far pictures are from the best quality, with a gradient with respect to their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from driqa_jax.data.views import ViewRule
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.functional import apply, calibrated


def quality_loss(
    params: dict[str, Any],
    calibration: Calibration | None = None,
    config: ml_collections.ConfigDict | dict[str, Any] | None = None,
    rule: ViewRule | None = None,
) -> Callable[[jax.Array], jax.Array]:
    """`loss(images)`, 1 minus the mean MOS of the pictures; pure, for `jax.jit`, `jax.grad` and `jax.vmap`.

    A picture can fool it: descending on free pixels raises the score and ruins the picture. Keep to the input, or
    descend on the parameters of a restorer, and look at the result; `examples/quality_loss.py` shows both.

    Args:
      params: of the model (`Scorer.params`).
      calibration: that of the scores (`Scorer.calibration`): the loss is then 1 - score / 100, before the score
        is clipped and rounded. None: the model's own MOS, before calibration. Both rise together.
      config: of the model (`Scorer.metadata["config"]`); None: the lite variant.
      rule: how a picture is looked at (`Scorer.rule`); None: the default.

    Returns:
      A function of images, (B, H, W, 3) float in [0, 1], sRGB, all of one size, to a scalar float32: about 0 for
      the best, about 1 for the worst. Pixels outside [0, 1] are not refused; clip what you optimise. It raises
      ValueError for images of another shape or dtype.
    """
    curve = Calibration() if calibration is None else calibration

    def loss(images: jax.Array) -> jax.Array:
        mos, _ = apply(params, images, config, rule)
        return 1.0 - calibrated(mos, curve).mean()

    return loss
