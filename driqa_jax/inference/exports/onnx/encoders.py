"""Emitters of the two encoders: the counterparts of `degradation_encoder`, `quality_encoder` and `efficientnet`."""

from typing import NamedTuple

import numpy as np

from driqa_jax.inference.exports.onnx import layers
from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.inference.exports.onnx.signals import signal_statistics
from driqa_jax.models.degradation_encoder import DegradationEncoder
from driqa_jax.models.efficientnet import LITE0
from driqa_jax.models.quality_encoder import STRIDE


class Degradation(NamedTuple):
    """`driqa_jax.models.degradation_encoder.Degradation` without what only training reads."""

    vector: str
    logits: str
    severity: str


def degradation_encoder(g: Graph, params: Params, module: DegradationEncoder, pixels: str, side: int) -> Degradation:
    """`DegradationEncoder` of `pixels` (M, 3, side, side) uint8."""
    tiles = g("Mul", g.cast(pixels, np.float32), 1 / 255)
    x = layers.conv(g, params["full"], g("Sub", g("Add", tiles, tiles), 1.0), 3)
    x = g("LeakyRelu", x, alpha=0.1)
    mean = g.mean(x, 2, 3)
    spread = g("Log", g("Add", _variance(g, x, side**2), 1e-5))
    for number, channels in enumerate((*module.channels[1:], module.width), start=1):
        side_out = side >> number
        x = layers.conv(g, params[f"conv{number}"], x, 3, stride=2, bias=False)
        x = layers.group_norm(g, params[f"norm{number}"], x, 8, channels, side_out)
        x = g("LeakyRelu", x, alpha=0.1)
    pooled = [g.mean(x, 2, 3), g("Sqrt", _variance(g, x, side_out**2)), mean, spread]
    if module.statistics:
        known = signal_statistics(g, pixels, tiles, side)
        known = layers.standardize(g, params["standardize_statistics"], known)
        pooled.append(layers.gelu(g, layers.dense(g, params["statistics"], known)))
    vector = layers.mlp(g, params["vector"], g.join(pooled, 1))
    vector = layers.layer_norm(g, params["vector_norm"], vector)
    logits, severity = (layers.dense(g, params[name], vector) for name in ("logits", "severity"))
    return Degradation(vector, logits, g("Sigmoid", severity))


def efficientnet(g: Graph, params: Params, pixels: str, canvas: layers.Canvas) -> list[str]:
    """`EfficientNetLite0` of `pixels` (B, 3, H, W) uint8."""
    x = g("Mul", g("Sub", g.cast(pixels, np.float32), 127.0), 1 / 128)
    if not canvas.covered:
        x = g("Mul", x, canvas.mask(g, 1))
    x = layers.relu6(g, layers.normed(g, params["stem"], x, 3, 2, outside=canvas.outside(g, 1, 3)))
    features, stride, masks = [], 2, {}
    for number, stage in enumerate(LITE0, start=1):
        for repeat in range(stage.repeats):
            step, alike = stage.stride if repeat == 0 else 1, repeat > 0
            if stride not in masks:
                masks[stride] = canvas.outside(g, stride, 1)
            block = params[f"stage{number}_block{repeat + 1}"]
            x = layers.inverted_residual(g, block, x, stage.kernel, step, alike, masks[stride])
            stride *= step
        features.append(x)
    return [*features, layers.relu6(g, layers.normed(g, params["head"], x))]


def quality_moments(g: Graph, params: Params, pixels: str, canvas: layers.Canvas) -> str:
    """The first output of `QualityEncoder.features`: (B, F)."""
    moments = []
    for feature, stride in zip(efficientnet(g, params["backbone"], pixels, canvas), _STRIDES, strict=True):
        moments += _moments(g, feature, canvas, stride)
    return g.join(moments, 1)


# Of the backbone's feature maps.
_STRIDES = (*(int(stride) for stride in 2 * np.cumprod([stage.stride for stage in LITE0])), STRIDE)


def _moments(g: Graph, x: str, canvas: layers.Canvas, stride: int) -> tuple[str, str]:
    """`masked_moments` of a feature map at `stride`."""
    flat = g.reshape(x, 0, 0, -1)
    if canvas.covered:
        first = g.mean(flat, 2, keep=True)
        second = g("Div", g.square_sum(g("Sub", flat, first), 2), canvas.pixels(g, stride))
    else:
        weights = canvas.weights(g, stride)
        first = g("MatMul", flat, weights)
        centered = g("Sub", flat, first)
        second = g("Squeeze", g("MatMul", g("Mul", centered, centered), weights), [2])
    return g("Squeeze", first, [2]), g("Sqrt", g("Add", second, 1e-6))


def _variance(g: Graph, x: str, pixels: int) -> str:
    return g("Mul", g.square_sum(g("Sub", x, g.mean(x, 2, 3, keep=True)), 2, 3), 1 / pixels)
