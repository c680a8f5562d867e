"""The inference program: a batch of views to predictions, one photo's bits being the same in every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Views = dict[str, jax.Array]


def make_program(model: Any, mirror: bool, one_by_one: bool) -> Callable[[Any, Views], jax.Array]:
    """`program(params, views)`, not yet jitted, for views as `make_view` gives them, stacked along a batch.

    Gives (B, 1 + N) float32: first the model's MOS, then what it gives from one tile at a time (N = K, or 2 K
    with `mirror`, where each photo is seen mirrored too and its MOS is the mean of both). `one_by_one`: rows are
    computed one after another, since nothing promises that the bits of a row are the same in every place of every
    batch; alone they are.
    """

    def together(params, views):
        whole, tiles = (views[key].astype(jnp.float32) / 255.0 for key in ("whole", "tiles"))
        seen = (whole, views["valid"], tiles, views["tile_boxes"])
        if mirror:
            seen = tuple(jnp.concatenate(pair) for pair in zip(seen, _mirrored(*seen), strict=True))
        mos, out = model.apply({"params": params}, *seen, alone=True)
        found = jnp.concatenate([mos[:, None], out["mos_alone"]], axis=1)
        if not mirror:
            return found
        once, again = jnp.split(found, 2)
        return jnp.concatenate([(once[:, :1] + again[:, :1]) / 2, once[:, 1:], again[:, 1:]], axis=1)

    def in_turn(params, views):
        if views["valid"].shape[0] == 1:
            return together(params, views)
        return jax.lax.map(
            lambda view: together(params, {key: value[None] for key, value in view.items()})[0], views
        )

    return in_turn if one_by_one else together


def _mirrored(whole, valid, tiles, tile_boxes):
    # The picture lies at the left of its canvas, and so must its mirror image.
    columns = jnp.arange(whole.shape[2])[None, :]
    source = jnp.where(columns < valid[:, 1:], valid[:, 1:] - 1 - columns, columns)
    whole = jnp.take_along_axis(whole, source[:, None, :, None], axis=2)
    y0, x0, y1, x1 = jnp.split(tile_boxes, 4, axis=-1)
    return whole, valid, tiles[:, :, :, ::-1], jnp.concatenate([y0, 1 - x1, y1, 1 - x0], axis=-1)
