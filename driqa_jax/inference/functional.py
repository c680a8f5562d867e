"""The functional core: parameters and images to MOS, all in JAX, for `jax.jit` and `jax.grad`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax.checkpoints.load import expected_params, model_config
from driqa_jax.checkpoints.weights import WeightsError, bundled, check_tensors, flatten, load_metadata
from driqa_jax.data.views import ViewRule, geometry
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.effort import look
from driqa_jax.inference.program import mirrored
from driqa_jax.models.driqa import build_model

BUNDLED = "lite"


def apply(
    params: Mapping[str, Any],
    images: jax.Array,
    config: ml_collections.ConfigDict | Mapping[str, Any] | None = None,
    rule: ViewRule | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """MOS of images, before calibration, and every intermediate; of a loaded model, `Scorer.apply` is this call.

    Args:
      params: parameters of the model (`Scorer.params`).
      images: (B, H, W, 3) float in [0, 1], sRGB, all of one size. See `views_of` for how they are rounded.
      config: configuration of the model (`Scorer.metadata["config"]`); None: that of the bundled model.
      rule: how an image becomes a view (`Scorer.rule`). It must be given with `config`; None without `config`: the
        bundled model's, at the default effort.

    Returns:
      mos (B,) float32 on the training scale (0 to 1, higher is better; `Scorer.calibration` maps it to the scale of
      the scores), and `out`, see `driqa_jax.models.driqa.DRIQA`.

    Raises:
      ValueError: images of another shape or dtype, `config` without `rule`, or params that do not fit the
        configuration.
    """
    model, rule = resolve(params, config, rule)
    return predict(model, params, images, rule)


def resolve(
    params: Mapping[str, Any],
    config: ml_collections.ConfigDict | Mapping[str, Any] | None,
    rule: ViewRule | None,
) -> tuple[Any, ViewRule]:
    """The model and the view rule of `apply`'s arguments; nothing is guessed. Raises ValueError as `apply` does."""
    if config is not None and rule is None:
        raise ValueError(
            "config is given without rule, and a configuration does not say how an image becomes a view; "
            "pass rule=scorer.rule too, or call scorer.apply(images)"
        )
    source = "config" if config is not None else f"the bundled model {BUNDLED!r}"
    metadata = _bundled_metadata() if config is None else {"config": plain_config(config)}
    model, expected = _model_and_shapes(json.dumps(metadata["config"], sort_keys=True))
    try:
        check_tensors("params", flatten(params), expected)
    except WeightsError as error:
        raise ValueError(
            f"{error}: the configuration is that of {source}. Call scorer.apply(images) or scorer.quality_loss(), or "
            'pass config=scorer.metadata["config"] and rule=scorer.rule of the scorer that the params are from'
        ) from None
    return model, look(ViewRule.from_dict(metadata["view"]), "default").rule if rule is None else rule


def predict(
    model: Any, params: Mapping[str, Any], images: jax.Array, rule: ViewRule, mirror: bool = False
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What `apply` returns, of a built model; with `mirror` the MOS is the mean over an image and its mirror image."""
    found = views_of(images, rule)
    views = found["whole"], found["valid"], found["tiles"], found["tile_boxes"]
    if mirror:
        views = [jnp.concatenate(pair) for pair in zip(views, mirrored(*views), strict=True)]
    mos, out = model.apply({"params": params}, *views)
    if not mirror:
        return mos, out
    # The intermediates are those of the image itself.
    return mos.reshape(2, -1).mean(axis=0), jax.tree.map(lambda x: x[: x.shape[0] // 2], out)


def calibrated(mos: jax.Array, calibration: Calibration) -> jax.Array:
    """MOS of `apply`, any shape, on the scale of the scores (score / 100, not clipped); `Calibration` in JAX."""
    if calibration.width is None:
        return mos
    return calibration.low + calibration.span * jax.nn.sigmoid((mos - calibration.centre) / calibration.width)


def views_of(images: jax.Array, rule: ViewRule, canvas: tuple[int, int] | None = None) -> dict[str, jax.Array]:
    """The views of images as `driqa_jax.data.views.make_view` cuts them; float32 in [0, 1], multiples of 1 / 255.

    The pixels are rounded to 8 bits where `make_view` rounds them: at first, and after each of the two passes of a
    resize. The gradient passes through the rounding as if nothing were rounded (a straight-through estimate).

    Args:
      images: (B, H, W, 3) float in [0, 1]; values outside are not clipped.
      rule: how an image becomes a view.
      canvas: (height, width) of `whole`; None: `rule.canvas_for`.

    Raises:
      ValueError: images of another shape or dtype, or a canvas that does not hold a crop.
    """
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (B, H, W, 3), got {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}; divide by 255 first")
    pixels = _rounded(images.astype(jnp.float32) * 255.0)
    batch = pixels.shape[0]
    cut = geometry(*pixels.shape[1:3], rule, canvas)
    source = _resized(pixels, cut.source)
    source = jnp.pad(source, ((0, 0), (0, cut.beyond[0]), (0, cut.beyond[1]), (0, 0)), mode="symmetric")
    tiles = jnp.stack([source[:, y : y + rule.tile, x : x + rule.tile] for y, x in cut.corners], axis=1)
    whole = tiles[:, 0] if rule.kind == "crop" else _resized(pixels, cut.valid)
    room = [(0, full - held) for full, held in zip(cut.canvas, cut.valid, strict=True)]
    return {
        "whole": jnp.pad(whole, ((0, 0), *room, (0, 0))) / 255.0,
        "valid": jnp.broadcast_to(jnp.array([cut.valid], jnp.int32), (batch, 2)),
        "tiles": tiles / 255.0,
        "tile_boxes": jnp.broadcast_to(jnp.asarray(cut.boxes)[None], (batch, *cut.boxes.shape)),
    }


def _resized(pixels, size):
    """As Pillow resizes: columns, then rows, each rounded to 8 bits."""
    for axis in (2, 1):
        shape = list(pixels.shape)
        shape[axis] = size[axis - 1]
        if shape[axis] != pixels.shape[axis]:
            pixels = _rounded(jax.image.resize(pixels, shape, "triangle", antialias=True))
    return pixels


def _rounded(pixels):
    return pixels + jax.lax.stop_gradient(jnp.floor(pixels + 0.5) - pixels)


@functools.cache
def _bundled_metadata() -> dict[str, Any]:
    file = bundled(BUNDLED)
    metadata = load_metadata(file)
    return {"config": plain_config(model_config(metadata, file)), "view": metadata["view"]}


@functools.lru_cache(maxsize=8)
def _model_and_shapes(config: str) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """The model and its flat parameters' shapes; kept, since tracing a model takes a second."""
    model = build_model(ml_collections.ConfigDict(json.loads(config)))
    # No parameter's shape depends on the view.
    return model, flatten(expected_params(model, ViewRule()))


def plain_config(config: Any) -> Any:
    """A configuration as plain values; None stays None."""
    return config.to_dict() if hasattr(config, "to_dict") else config
