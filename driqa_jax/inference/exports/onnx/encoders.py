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
    spread = g("Log", g("Add", _variance(g, x), 1e-5))
    for number, channels in enumerate((*module.channels[1:], module.width), start=1):
        side_out = side >> number
        x = layers.conv(g, params[f"conv{number}"], x, 3, stride=2, bias=False)
        x = layers.group_norm(g, params[f"norm{number}"], x, 8, channels, side_out)
        x = g("LeakyRelu", x, alpha=0.1)
    pooled = [g.mean(x, 2, 3), g("Sqrt", _variance(g, x)), mean, spread]
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
        moments += _moments(g, feature, canvas.weights(g, stride))
    return g.join(moments, 1)


# Of the backbone's feature maps.
_STRIDES = (*(int(stride) for stride in 2 * np.cumprod([stage.stride for stage in LITE0])), STRIDE)


def _moments(g: Graph, x: str, weights: str | None) -> tuple[str, str]:
    """`masked_moments`; `weights` (B, N, 1) have the sum 1 over the pixels, and are 0 outside; None: equal weights."""
    flat = g.reshape(x, 0, 0, -1)

    def mean(values, keep=False):
        if weights is None:
            return g.mean(values, 2, keep=keep)
        found = g("MatMul", values, weights)
        return found if keep else g("Squeeze", found, [2])

    first = mean(flat, keep=True)
    centered = g("Sub", flat, first)
    second = mean(g("Mul", centered, centered))
    return g("Squeeze", first, [2]), g("Sqrt", g("Add", second, 1e-6))


def _variance(g: Graph, x: str) -> str:
    centered = g("Sub", x, g.mean(x, 2, 3, keep=True))
    return g.mean(g("Mul", centered, centered), 2, 3)
