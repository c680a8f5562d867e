"""The model as a loss: how far images are from the best quality, with a gradient with respect to their pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from driqa_jax.data.views import ViewRule
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.functional import calibrated, predict, resolve


def quality_loss(
    params: Mapping[str, Any],
    calibration: Calibration | None = None,
    config: ml_collections.ConfigDict | Mapping[str, Any] | None = None,
    rule: ViewRule | None = None,
) -> Callable[[jax.Array], jax.Array]:
    """`loss(images)`, 1 minus the mean MOS of the images; pure, for `jax.jit`, `jax.grad` and `jax.vmap`.

    An optimiser can fool it: descent on free pixels raises the score and ruins the image. Keep a term that holds the
    result to its input, or descend on the parameters of a restorer, and look at the result;
    `examples/quality_loss.py` shows both. Of a loaded model, `Scorer.quality_loss` is this call.

    Args:
      params: parameters of the model (`Scorer.params`).
      calibration: that of the scores (`Scorer.calibration`): the loss is then 1 - score / 100, before the score
        is clipped and rounded. None: the model's own MOS, before calibration. Both rise together.
      config, rule: as for `driqa_jax.apply`: both, of the scorer that the params are from; None: the bundled model's.

    Returns:
      A function of images, (B, H, W, 3) float in [0, 1], sRGB, all of one size, to a scalar float32: about 0 for
      the best, about 1 for the worst. Pixels outside [0, 1] are not refused; clip what you optimise. It raises
      ValueError for images of another shape or dtype.

    Raises:
      ValueError: `config` without `rule`, or params that do not fit the configuration.
    """
    model, rule = resolve(params, config, rule)
    return loss_of(lambda images: predict(model, params, images, rule), calibration)


def loss_of(apply: Callable[[jax.Array], tuple], calibration: Calibration | None) -> Callable[[jax.Array], jax.Array]:
    """The loss of `apply(images) -> (mos, out)`; `calibration` as in `quality_loss`."""
    curve = Calibration() if calibration is None else calibration

    def loss(images: jax.Array) -> jax.Array:
        return 1.0 - calibrated(apply(images)[0], curve).mean()

    return loss
