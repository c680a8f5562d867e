"""The functional interface for `jax.jit` and `jax.grad`: images to MOS, and the model as a loss on pixels."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax.checkpoints.load import expected_params, model_config, plain_config
from driqa_jax.checkpoints.weights import WeightsError, bundled, check_tensors, flatten, load_metadata
from driqa_jax.data.views import ViewRule, enlarging_weights, geometry
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.effort import look
from driqa_jax.inference.program import mirrored
from driqa_jax.models.driqa import build_model

BUNDLED = "lite"

Config: TypeAlias = ml_collections.ConfigDict | Mapping[str, Any]


def apply(
    params: Mapping[str, Any], images: jax.Array, config: Config | None = None, rule: ViewRule | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Uncalibrated MOS and intermediates; `Scorer.apply` is this function for a loaded model.

    Args:
      params: model parameters (`Scorer.params`).
      images: (B, H, W, 3) float in [0, 1], sRGB; `views_of` describes their rounding.
      config: model configuration (`Scorer.metadata["config"]`); None for the bundled model.
      rule: view rule (`Scorer.rule`), required with `config`; None for the bundled model at the default effort.

    Returns:
      mos (B,) float32 on the training scale (0 to 1, higher is better; `Scorer.calibration` maps it to scores), and
      `out`, see `driqa_jax.models.driqa.DRIQA`.

    Raises ValueError if images have another shape or dtype, `config` is given without `rule`, or params do not fit.
    """
    model, rule = resolve(params, config, rule)
    return predict(model, params, images, rule)


def resolve(params: Mapping[str, Any], config: Config | None, rule: ViewRule | None) -> tuple[Any, ViewRule]:
    """The model and the view rule for the arguments of `apply`. Raises ValueError as `apply` does."""
    if config is not None and rule is None:
        missing = "config is given without rule, but a configuration does not hold the view rule"
        raise ValueError(f"{missing}; pass rule=scorer.rule too, or call scorer.apply(images)")
    source = "config" if config is not None else f"the bundled model {BUNDLED!r}"
    metadata = _bundled_metadata() if config is None else {"config": plain_config(config)}
    model, expected = _model_and_shapes(json.dumps(metadata["config"], sort_keys=True))
    try:
        check_tensors("params", flatten(params), expected)
    except WeightsError as error:
        raise ValueError(
            f"{error}: the configuration is that of {source}. Call scorer.apply(images) or scorer.quality_loss(), or "
            'pass config=scorer.metadata["config"] and rule=scorer.rule of the scorer that owns the params'
        ) from None
    return model, look(ViewRule.from_dict(metadata["view"]), "default").rule if rule is None else rule


def predict(
    model: Any, params: Mapping[str, Any], images: jax.Array, rule: ViewRule, mirror: bool = False
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`apply` for a built model; with `mirror` the MOS is the mean over each image and its mirror image."""
    by_name = views_of(images, rule)
    views: Any = by_name["whole"], by_name["valid"], by_name["tiles"], by_name["tile_boxes"]
    if mirror:
        views = [jnp.concatenate(pair) for pair in zip(views, mirrored(*views), strict=True)]
    mos, out = model.apply({"params": params}, *views)
    if not mirror:
        return mos, out
    # Intermediates are those of the unmirrored image.
    return mos.reshape(2, -1).mean(axis=0), jax.tree.map(lambda x: x[: x.shape[0] // 2], out)


def calibrated(mos: jax.Array, calibration: Calibration) -> jax.Array:
    """`Calibration` in JAX: MOS from `apply`, any shape, to score / 100, not clipped."""
    if calibration.width is None:
        return mos
    return calibration.low + calibration.span * jax.nn.sigmoid((mos - calibration.centre) / calibration.width)


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

    Raises ValueError if `config` is given without `rule`, or params do not fit the configuration.
    """
    model, rule = resolve(params, config, rule)
    return loss_of(lambda images: predict(model, params, images, rule), calibration)


def loss_of(apply: Callable[[jax.Array], tuple], calibration: Calibration | None) -> Callable[[jax.Array], jax.Array]:
    """The loss from `apply(images) -> (mos, out)`; `calibration` as in `quality_loss`."""
    curve = Calibration() if calibration is None else calibration

    def loss(images: jax.Array) -> jax.Array:
        return 1.0 - calibrated(apply(images)[0], curve).mean()

    return loss


def views_of(images: jax.Array, rule: ViewRule, canvas: tuple[int, int] | None = None) -> dict[str, jax.Array]:
    """`driqa_jax.data.views.make_view` in JAX: views as float32 in [0, 1], multiples of 1 / 255.

    Pixels are rounded to 8 bits where `make_view` rounds them: on input and after each of the two resize passes. The
    gradient ignores the rounding (straight-through estimator).

    Args:
      images: (B, H, W, 3) float in [0, 1]; values outside are not clipped.
      rule: the view rule.
      canvas: (height, width) of `whole`; None uses `rule.canvas_for`.

    Raises ValueError if images have another shape or dtype, or the canvas does not hold a crop.
    """
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (B, H, W, 3), got {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}; divide by 255 first")
    pixels = _rounded(images.astype(jnp.float32) * 255.0)
    batch = pixels.shape[0]
    cut = geometry(pixels.shape[1], pixels.shape[2], rule, canvas)
    source = _resized(pixels, cut.source, rule.enlarging)
    source = jnp.pad(source, ((0, 0), (0, cut.beyond[0]), (0, cut.beyond[1]), (0, 0)), mode="symmetric")
    tiles = jnp.stack([source[:, y : y + rule.tile, x : x + rule.tile] for y, x in cut.corners], axis=1)
    whole = tiles[:, 0] if rule.kind == "crop" else _resized(pixels, cut.valid, rule.enlarging)
    padding = [(0, full - used) for full, used in zip(cut.canvas, cut.valid, strict=True)]
    return {
        "whole": jnp.pad(whole, ((0, 0), *padding, (0, 0))) / 255.0,
        "valid": jnp.broadcast_to(jnp.array([cut.valid], jnp.int32), (batch, 2)),
        "tiles": tiles / 255.0,
        "tile_boxes": jnp.broadcast_to(jnp.asarray(cut.boxes)[None], (batch, *cut.boxes.shape)),
    }


def _resized(pixels: jax.Array, size: Sequence[int], enlarging: str) -> jax.Array:
    """Resize like Pillow: columns, then rows, each rounded to 8 bits."""
    for axis in (2, 1):
        old, new = pixels.shape[axis], size[axis - 1]
        shape = [*pixels.shape[:axis], new, *pixels.shape[axis + 1 :]]
        if new > old and enlarging == "hamming":
            weights = jnp.asarray(enlarging_weights(old, new), jnp.float32)
            moved = jnp.tensordot(pixels, weights, (axis, 1), precision="highest")
            pixels = _rounded(jnp.moveaxis(moved, -1, axis))
        elif new != old:
            pixels = _rounded(jax.image.resize(pixels, shape, "triangle", antialias=True))
    return pixels


def _rounded(pixels: jax.Array) -> jax.Array:
    return pixels + jax.lax.stop_gradient(jnp.floor(pixels + 0.5) - pixels)


@functools.cache
def _bundled_metadata() -> dict[str, Any]:
    file = bundled(BUNDLED)
    metadata = load_metadata(file)
    return {"config": plain_config(model_config(metadata, file)), "view": metadata["view"]}


@functools.lru_cache(maxsize=8)
def _model_and_shapes(config: str) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """The model and its flat parameter shapes, cached because tracing takes a second."""
    model = build_model(ml_collections.ConfigDict(json.loads(config)))
    return model, flatten(expected_params(model))
