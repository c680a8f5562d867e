"""The functional core: parameters and pictures to MOS, all in JAX, to be jitted and differentiated."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.data.views import ViewRule
from driqa_jax.models.driqa import build_model
from driqa_jax.scoring.calibration import Calibration


def apply(
    params: dict[str, Any],
    images: jax.Array,
    config: ml_collections.ConfigDict | dict[str, Any] | None = None,
    rule: ViewRule | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """MOS of pictures, before calibration, and every intermediate.

    Args:
      params: of the model (`Scorer.params`).
      images: (B, H, W, 3) float in [0, 1], sRGB, all of one size.
      config: of the model (`metadata["config"]`); None: the lite variant.
      rule: how a picture is looked at; None: the default.

    Returns:
      mos (B,) float32 on the training scale (0 to 1, higher is better; `Scorer.calibration` brings it to that
      of the scores), and `out`, see `driqa_jax.models.driqa.DRIQA`.

    Raises:
      ValueError: images of another shape or dtype.
    """
    if config is None:
        types = params["degradation_encoder"]["logits"]["bias"].shape[0]
        config = {"variant": "lite", "types": types, "dropout": 0.0}
    model = build_model(ml_collections.ConfigDict(config))
    views = views_of(images, ViewRule() if rule is None else rule)
    outcome: Any = model.apply({"params": params}, views["whole"], views["valid"], views["tiles"], views["tile_boxes"])
    return outcome


def calibrated(mos: jax.Array, calibration: Calibration) -> jax.Array:
    """MOS of `apply`, any shape, on the scale of the scores (score / 100, not clipped); `Calibration` in JAX."""
    if calibration.width is None:
        return mos
    return calibration.low + calibration.span * jax.nn.sigmoid((mos - calibration.centre) / calibration.width)


def views_of(images: jax.Array, rule: ViewRule) -> dict[str, jax.Array]:
    """The views of pictures as `driqa_jax.data.views.make_view` cuts them, differentiable; float32, 0 to 1.

    images: (B, H, W, 3) float in [0, 1]. Where `make_view` rounds to 8 bits, nothing is rounded here.
    """
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (B, H, W, 3), got {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}; divide by 255 first")
    images = images.astype(jnp.float32)
    batch, height, width = images.shape[:3]
    canvas = rule.canvas_for(height, width)
    rows, columns = rule.size_in(height, width, canvas)
    small = jax.image.resize(images, (batch, rows, columns, 3), "triangle", antialias=True)
    whole = jnp.pad(small, ((0, 0), (0, canvas[0] - rows), (0, canvas[1] - columns), (0, 0)))
    tiles, boxes = _tiles_of(images, rule)
    return {
        "whole": whole,
        "valid": jnp.broadcast_to(jnp.array([[rows, columns]], jnp.int32), (batch, 2)),
        "tiles": tiles,
        "tile_boxes": jnp.broadcast_to(jnp.asarray(boxes)[None], (batch, *boxes.shape)),
    }


def _tiles_of(images: jax.Array, rule: ViewRule) -> tuple[jax.Array, np.ndarray]:
    height, width = images.shape[1:3]
    below, right = max(rule.tile - height, 0), max(rule.tile - width, 0)
    images = jnp.pad(images, ((0, 0), (0, below), (0, right), (0, 0)), mode="symmetric")
    grid = math.isqrt(rule.tiles)
    fractions = [(2 * i + 1) / (2 * grid) for i in range(grid)]
    room = images.shape[1] - rule.tile, images.shape[2] - rule.tile
    corners = [(round(room[0] * fy), round(room[1] * fx)) for fy in fractions for fx in fractions]
    tiles = [images[:, y : y + rule.tile, x : x + rule.tile] for y, x in corners]
    boxes = [(y / height, x / width, (y + rule.tile) / height, (x + rule.tile) / width) for y, x in corners]
    return jnp.stack(tiles, axis=1), np.array(boxes, np.float32)
