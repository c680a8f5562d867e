"""Emitters of the form "deduction": the counterparts of `driqa_jax.models.deduction`."""

from typing import NamedTuple

import numpy as np

from driqa_jax.inference.exports.onnx import layers
from driqa_jax.inference.exports.onnx.encoders import degradation_encoder, quality_moments
from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.models import deduction
from driqa_jax.models.deduction import DeductionHead, DeductionModel


class Views(NamedTuple):
    """What the model reads.

    `whole` (B, 3, H, W) uint8; `tiles` (B * K, 3, S, S) uint8; `count` K and `side` S; `boxes` (B, K, 4) float32;
    `canvas`: that of `whole`.
    """

    whole: str
    tiles: str
    count: int
    side: int
    boxes: str
    canvas: layers.Canvas


def deduction_model(g: Graph, params: Params, model: DeductionModel, views: Views) -> dict[str, str]:
    """Names of `mos` (B,), `per_tile_mos` (B, K), `degradation_logits`, `severity`, `visibility` (B, T) and
    `patch_scores` (B, h, w), as `DeductionModel` gives them."""
    encoded = degradation_encoder(g, params["degradation_encoder"], model.degradation_encoder, views.tiles, views.side)
    vector = g.reshape(encoded.vector, -1, views.count, model.degradation_encoder.width)
    moments = quality_moments(g, params["quality_encoder"], views.whole, views.canvas)
    head, module = params["head"], model.head
    lvl = level(g, head, moments)
    drops = drops_of(g, head, vector)
    kept = _logarithm_kept(g, drops)
    shared = g("Mul", kept, np.float32(module.shares)) if module.shares else kept
    tile_kept = g.sum(shared, 2)  # (B, K), logarithms
    mos = capped(g, module, lvl, g("Exp", g.mean(tile_kept, 1, keep=True)))
    per_tile = capped(g, module, lvl, g("Exp", tile_kept))
    types = model.degradation_encoder.types
    logits, severity = (g.mean(g.reshape(x, -1, views.count, types), 1) for x in (encoded.logits, encoded.severity))
    return {
        "mos": g("Squeeze", mos, [1]),
        "per_tile_mos": per_tile,
        "degradation_logits": logits,
        "severity": severity,
        "visibility": visibility(g, model, logits, kept, types),
        "patch_scores": quality_map(g, module, lvl, tile_kept, views),
    }


def level(g: Graph, params: Params, moments: str) -> str:
    """`DeductionHead.level`: (B, 1)."""
    hidden = layers.dense(g, params["level_hidden"], layers.standardize(g, params["standardize_moments"], moments))
    return layers.dense(g, params["level_out"], layers.gelu(g, hidden))


def drops_of(g: Graph, params: Params, vector: str) -> str:
    """The drops (B, K, T') of `vector` (B, K, C)."""
    hidden = layers.dense(g, params["drop_hidden"], layers.standardize(g, params["standardize_vectors"], vector))
    return g("Sigmoid", layers.dense(g, params["drop_out"], layers.gelu(g, hidden)))


def capped(g: Graph, module: DeductionHead, lvl: str, keep: str) -> str:
    """`DeductionHead.capped`: the soft minimum a - t softplus((a - b) / t) of level and ceiling."""
    ceiling = g("Add", g("Mul", keep, module.top - deduction.FLOOR), deduction.FLOOR)
    excess = g("Mul", g("Sub", lvl, ceiling), 1 / module.temperature)
    return g("Sub", lvl, g("Mul", g("Softplus", excess), module.temperature))


def quality_map(g: Graph, module: DeductionHead, lvl: str, tile_kept: str, views: Views) -> str:
    """`patch_scores` (B, h, w): the level under the ceiling of the tiles around each cell."""
    squares = []
    for axis in (0, 1):
        start, end = (g.slice(views.boxes, 2, i, i + 1) for i in (axis, axis + 2))  # (B, K, 1)
        center, size = g("Mul", g("Add", start, end), 0.5), g("Sub", end, start)
        distance = g("Div", g("Sub", g("Unsqueeze", views.canvas.places(g, axis), [1]), center), size)
        squares.append(g("Unsqueeze", g("Mul", distance, distance), [3 - axis]))  # (B, K, h, 1) and (B, K, 1, w)
    near = g("Softmax", g("Mul", g("Add", *squares), -deduction._SHARPNESS), axis=1)
    kept = g.sum(g("Mul", near, g("Unsqueeze", tile_kept, [2, 3])), 1)
    return capped(g, module, g("Unsqueeze", lvl, [2]), g("Exp", kept))


def visibility(g: Graph, model: DeductionModel, logits: str, kept: str, types: int) -> str:
    """The probabilities (B, T) that a person sees each type."""
    drop = g("Sub", 1.0, g("Exp", g.mean(kept, 1)))
    seen = g("Mul", g("Sub", drop, deduction.VISIBLE), 1 / deduction.VISIBLE_WIDTH)
    place = np.arange(types)
    place[list(model.drop_types)] = types + np.arange(len(model.drop_types))
    return g("Sigmoid", g("Gather", g.join([logits, seen], 1), place, axis=1))


def _logarithm_kept(g: Graph, drops: str) -> str:
    return g("Log", g("Sub", 1.0, g("Min", drops, deduction._MOST)))
