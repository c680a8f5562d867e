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

    `whole` (B, 3, H, W) uint8; `tiles` (B * K, 3, S, S) uint8; `count` K, a number or a name, and `side` S; `boxes`
    (B, K, 4) float32; `cells`: rows and columns of cells of 32 pixels in `whole`, each () int64.
    """

    whole: str
    tiles: str
    count: int | str
    side: int
    boxes: str
    cells: tuple[str, str]


class Places(NamedTuple):
    """`driqa_jax.models.deduction.Places`, of cells that are all inside the image: `near` (B, N, K); `central`
    (1, 1, N), sum 1."""

    near: str
    central: str


def deduction_model(g: Graph, params: Params, model: DeductionModel, views: Views) -> dict[str, str]:
    """Names of `mos` (B,), `per_tile_mos` (B, K), `severity` and `visibility` (B, T), `patch_scores` (B, h, w),
    `drops` and `cell_visibility` (B, h, w, T), `d` (B, C) and `q` (B, Q), as `DeductionModel` gives them."""
    vector = degradation_encoder(g, params["degradation_encoder"], model.degradation_encoder, views.tiles, views.side)
    vectors = g.reshape(vector, -1, views.count, model.degradation_encoder.width)
    moments, cells = quality_moments(g, params["quality_encoder"], views.whole)
    head, module = params["head"], model.head
    places = Places(nearness(g, views), centrality(g, views))
    standard = layers.standardize(g, head["standardize_moments"], moments)
    q = layers.gelu(g, layers.dense(g, head["level_hidden"], standard))
    quality = layers.dense(g, head["level_out"], q)  # (B, 1)
    if module.residual:
        mean = g.mean(layers.standardize(g, head["standardize_vectors"], vectors), 1)
        residual = layers.dense(g, head["residual_out"], g.join([standard, q, mean], 1))
        quality = g("Add", quality, residual)
    lost = lost_of(g, drop_logits(g, head, cells, vectors, places))
    shares = np.float32(module.shares or (1.0,) * module.types)[:, None]
    cell_lost = g("MatMul", lost, shares)  # (B, N, 1)
    mos = capped(g, module, quality, g("Exp", g("Neg", pooled(g, cell_lost))))
    scores = capped(g, module, quality, g("Squeeze", g("Exp", g("Neg", cell_lost)), [2]))
    shape = g.join([[-1], *(g("Unsqueeze", side, [0]) for side in views.cells)], 0)
    whole = pooled(g, lost)
    factor = gain(g, module, quality, whole)
    lost, whole = g("Mul", lost, g("Unsqueeze", factor, [1])), g("Mul", whole, factor)
    drop = g("Sub", 1.0, g("Exp", g("Neg", whole)))
    drops = g("Reshape", g("Sub", 1.0, g("Exp", g("Neg", lost))), g.join([shape, [module.types]], 0))
    return {
        "mos": g("Squeeze", mos, [1]),
        "per_tile_mos": capped(g, module, quality, keep_by_tile(g, cell_lost, places)),
        "severity": drop,
        "visibility": visible(g, drop),
        "patch_scores": g("Reshape", scores, shape),
        "drops": drops,
        "cell_visibility": visible(g, drops),
        "d": g.mean(vectors, 1),
        "q": q,
    }


def visible(g: Graph, drop: str) -> str:
    """The probability that a person sees a drop."""
    return g("Sigmoid", g("Mul", g("Sub", drop, deduction.VISIBLE), 1 / deduction.VISIBLE_WIDTH))


def drop_logits(g: Graph, params: Params, cells: str, vectors: str, places: Places) -> str:
    """`DeductionHead.drop_logits`: (B, N, T)."""
    tiles = layers.standardize(g, params["standardize_vectors"], vectors)
    tiles = layers.dense(g, params["drop_of_vectors"], tiles)
    cells = layers.standardize(g, params["standardize_cells"], cells)
    context = g.join([g.mean(cells, 1, keep=True), g("MatMul", places.central, cells)], 2)
    context = layers.dense(g, params["drop_of_context"], layers.dense(g, params["drop_context"], context))
    hidden = g("Add", layers.dense(g, params["drop_of_cells"], cells), context)
    hidden = g("Add", hidden, g("MatMul", places.near, tiles))
    return layers.dense(g, params["drop_out"], layers.gelu(g, hidden))


def lost_of(g: Graph, logits: str) -> str:
    """Minus the logarithm of what a drop keeps."""
    return g("Neg", g("Log", g("Sub", 1.0, g("Min", g("Sigmoid", logits), deduction._MOST))))


def pooled(g: Graph, lost: str) -> str:
    """`deduction.pooled`: (B, N, C) -> (B, C)."""
    order = float(deduction._WORST)
    return g("Pow", g.mean(g("Pow", g("Add", lost, 1e-6), order), 1), 1 / order)


def gain(g: Graph, module: DeductionHead, quality: str, lost: str) -> str:
    """`DeductionHead.gain`: (B, T), of `quality` (B, 1) and `lost` (B, T)."""
    left = g("Max", g("Sub", quality, deduction.FLOOR), 0.02)
    lacks = g("Max", g("Log", g("Div", deduction.SOUND - deduction.FLOOR, left)), 0.0)
    evidence = g("Add", g.sum(lost, 1, keep=True), deduction.EVIDENCE)
    causes = np.float32(module.causes or (0.0,) * module.types)
    explained = g("Mul", g("Add", 1.0, g("Mul", g("Div", lacks, evidence), causes)), deduction.SHRINKAGE)
    total, squares = (g("MatMul", x, module.same) for x in (lost, g("Mul", lost, lost)))
    return g("Mul", g("Div", g("Mul", total, total), g("Add", squares, 1e-12)), explained)


def keep_by_tile(g: Graph, cell_lost: str, places: Places) -> str:
    """What the drops of the cells near each tile keep: (B, K)."""
    total = g("Max", g.sum(places.near, 1), 1e-6)
    return g("Exp", g("Neg", g("Div", g.sum(g("Mul", places.near, cell_lost), 1), total)))


def capped(g: Graph, module: DeductionHead, quality: str, keep: str) -> str:
    """`DeductionHead.capped`: the soft minimum a - t softplus((a - b) / t) of level and ceiling."""
    ceiling = g("Add", g("Mul", keep, module.top - deduction.FLOOR), deduction.FLOOR)
    excess = g("Mul", g("Sub", quality, ceiling), 1 / module.temperature)
    return g("Sub", quality, g("Mul", g("Softplus", excess), module.temperature))


def nearness(g: Graph, views: Views) -> str:
    """`near` of `Places`."""
    squares = []
    for axis in (0, 1):
        start, end = (g.slice(views.boxes, 2, i, i + 1) for i in (axis, axis + 2))  # (B, K, 1)
        center, size = g("Mul", g("Add", start, end), 0.5), g("Sub", end, start)
        distance = g("Div", g("Sub", fractions(g, views.cells[axis]), center), size)
        squares.append(g("Unsqueeze", g("Mul", distance, distance), [3 - axis]))  # (B, K, h, 1) and (B, K, 1, w)
    square = g.reshape(g("Add", *squares), 0, 0, -1)
    return g("Softmax", g("Mul", g("Transpose", square, perm=(0, 2, 1)), -deduction._SHARPNESS), axis=2)


def fractions(g: Graph, count: str) -> str:
    """(count,) float32: centers of `count` cells as fractions of the image."""
    centers = g("Add", g.cast(g("Range", np.int64(0), count, np.int64(1)), np.float32), 0.5)
    return g("Div", centers, g.cast(count, np.float32))


def centrality(g: Graph, views: Views) -> str:
    """`central` of `Places`."""
    sides = []
    for axis in (0, 1):
        distance = g("Mul", g("Sub", fractions(g, views.cells[axis]), 0.5), 1 / deduction._MIDDLE)
        weight = g("Exp", g("Mul", g("Mul", distance, distance), -0.5))
        sides.append(g("Unsqueeze", weight, [1 - axis]))  # (h, 1) and (1, w)
    central = g.reshape(g("Mul", *sides), 1, 1, -1)
    return g("Div", central, g.sum(central, 2, keep=True))
