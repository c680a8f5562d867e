"""The inference program: a batch of views to predictions, one photo's bits being the same in every batch.

It has a stage for each part of the model where the parts can run alone, as those of `driqa_jax.models.driqa.DRIQA`
can: they compile side by side, each with the options that are fast for it, and XLA makes slower code of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from driqa_jax.models.driqa import TileReading
from driqa_jax.models.quality_encoder import Quality
from driqa_jax.models.vit import ViT

Views = dict[str, jax.Array]
FOUND = "found"
_QUALITY, _TILES = "quality_", "tiles_"
# Several photos at once use the cores better than several threads for one product of matrices.
_CPU = {"xla_cpu_multi_thread_eigen": False}
_CPU_CONVOLUTIONS = {**_CPU, "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


class Stage(NamedTuple):
    """A function of `(params, views)` that gives arrays to add to the views, and options for XLA's compiler.

    Options are left out where XLA does not know them: they change its speed, not the scores.
    """

    function: Callable[[Any, Views], Views]
    options: Mapping[str, Any]


def make_stages(model: Any, mirror: bool, cpu: bool) -> tuple[Stage, ...]:
    """The stages, for views as `make_view` gives them, stacked along a batch.

    The last adds `FOUND`, (B, 1 + N) float32: first the model's MOS, then what it gives from one tile at a time (N =
    K, or 2 K with `mirror`, where each photo is seen mirrored too and its MOS is the mean of both). With `cpu`, rows
    are computed one after another, since nothing promises that the bits of a row are the same in every place of every
    batch; alone they are.
    """
    looks = 2 if mirror else 1

    def seen(views):
        whole, tiles = (views[key].astype(jnp.float32) / 255.0 for key in ("whole", "tiles"))
        once = (whole, views["valid"], tiles, views["tile_boxes"])
        return tuple(jnp.concatenate(pair) for pair in zip(once, mirrored(*once), strict=True)) if mirror else once

    def apart(arrays, prefix):
        """Rows of all looks, one after another, as rows of photos: (B, looks, ...)."""
        split = {key: value.reshape(looks, -1, *value.shape[1:]) for key, value in arrays.items()}
        return {prefix + key: value.swapaxes(0, 1) for key, value in split.items()}

    def joined(views, prefix):
        found = {key.removeprefix(prefix): value for key, value in views.items() if key.startswith(prefix)}
        return {key: value.swapaxes(0, 1).reshape(-1, *value.shape[2:]) for key, value in found.items()}

    def degradation(params, views):
        _, _, tiles, boxes = seen(views)
        found = model.apply({"params": params}, tiles.reshape(-1, *tiles.shape[2:]), method="encode_degradation")
        return apart(_by_tile({"vector": found.vector, "tokens": found.tokens}, boxes), _TILES)

    def restoration(params, views):
        _, _, tiles, boxes = seen(views)
        vector = joined(views, _TILES)["vector"]
        flat = vector.reshape(-1, vector.shape[-1])
        tokens = model.apply({"params": params}, tiles, flat, method="read_restoration")
        return apart(_by_tile({"restoration": tokens}, boxes), _TILES)

    def quality(params, views):
        whole, valid, *_ = seen(views)
        return apart(model.apply({"params": params}, whole, valid, method="encode_quality")._asdict(), _QUALITY)

    def combine(params, views):
        whole, valid, _, boxes = seen(views)
        tiles = {key: value.reshape(-1, *value.shape[2:]) for key, value in joined(views, _TILES).items()}
        parts = TileReading(**tiles), boxes, Quality(**joined(views, _QUALITY)), valid, whole.shape[1:3], True
        return finished(*model.apply({"params": params}, *parts, method="combine"))

    def at_once(params, views):
        return finished(*model.apply({"params": params}, *seen(views), per_tile=True))

    def finished(mos, out):
        found = jnp.concatenate([mos[:, None], out["per_tile_mos"]], axis=1)
        if mirror:
            once, again = jnp.split(found, 2)
            found = jnp.concatenate([(once[:, :1] + again[:, :1]) / 2, once[:, 1:], again[:, 1:]], axis=1)
        return {FOUND: found}

    if not hasattr(model, "combine"):
        return (_stage(at_once, cpu),)
    # What is fast for convolutions makes a ViT 1.6 times slower.
    options = _CPU if isinstance(model.quality_encoder.backbone, ViT) else _CPU_CONVOLUTIONS
    parts = _stage(degradation, cpu), _stage(restoration, cpu), _stage(quality, cpu, options)
    return *parts, _stage(combine, cpu)


def _by_tile(arrays, boxes):
    return {key: value.reshape(*boxes.shape[:2], *value.shape[1:]) for key, value in arrays.items()}


def _stage(function, cpu, options=_CPU):
    return Stage(_one_by_one(function), options) if cpu else Stage(function, {})


def _one_by_one(function):
    def in_turn(params, views):
        if views["valid"].shape[0] == 1:
            return function(params, views)

        def one(view):
            found = function(params, {key: value[None] for key, value in view.items()})
            return {key: value[0] for key, value in found.items()}

        return jax.lax.map(one, views)

    return in_turn


def mirrored(whole: jax.Array, valid: jax.Array, tiles: jax.Array, tile_boxes: jax.Array) -> tuple[jax.Array, ...]:
    """The same views of the mirror images, with the batch axis that `DRIQA` has; tiles keep their order."""
    # The picture lies at the left of its canvas, and so must its mirror image.
    columns = jnp.arange(whole.shape[2])[None, :]
    source = jnp.where(columns < valid[:, 1:], valid[:, 1:] - 1 - columns, columns)
    whole = jnp.take_along_axis(whole, source[:, None, :, None], axis=2)
    y0, x0, y1, x1 = jnp.split(tile_boxes, 4, axis=-1)
    return whole, valid, tiles[:, :, :, ::-1], jnp.concatenate([y0, 1 - x1, y1, 1 - x0], axis=-1)
