"""The model as a differentiable loss on image pixels."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from driqa_jax.data.views import ViewRule
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.functional import Config, calibrated, predict, resolve


def quality_loss(
    params: Mapping[str, Any],
    calibration: Calibration | None = None,
    config: Config | None = None,
    rule: ViewRule | None = None,
) -> Callable[[jax.Array], jax.Array]:
    """A pure `loss(images)`, 1 minus the mean MOS, for `jax.jit`, `jax.grad` and `jax.vmap`.

    An optimizer can exploit it: descent on free pixels raises the score and ruins the image. Add a term that keeps the
    result near its input, or optimize the parameters of a restorer, and inspect the result. `examples/quality_loss.py`
    shows both. `Scorer.quality_loss` is this function for a loaded model.

    Args:
      params: model parameters (`Scorer.params`).
      calibration: `Scorer.calibration` gives 1 - score / 100, before clipping and rounding; None uses the
        uncalibrated MOS.
      config, rule: as for `driqa_jax.apply`; None for the bundled model.

    Returns:
      A function from images (B, H, W, 3) float in [0, 1], sRGB, to a scalar float32, about 0 (best) to 1 (worst). It
      does not check the range of pixels; clip what you optimize. It raises ValueError for another shape or dtype.

    Raises:
      ValueError: `config` is given without `rule`, or params do not fit the configuration.
    """
    model, rule = resolve(params, config, rule)
    return loss_of(lambda images: predict(model, params, images, rule), calibration)


def loss_of(apply: Callable[[jax.Array], tuple], calibration: Calibration | None) -> Callable[[jax.Array], jax.Array]:
    """The loss from `apply(images) -> (mos, out)`; `calibration` as in `quality_loss`."""
    curve = Calibration() if calibration is None else calibration

    def loss(images: jax.Array) -> jax.Array:
        return 1.0 - calibrated(apply(images)[0], curve).mean()

    return loss
