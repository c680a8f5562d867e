"""Emitters of the two encoders: the counterparts of `degradation_encoder`, `quality_encoder` and `efficientnet`."""

import numpy as np

from driqa_jax.inference.exports.onnx import layers
from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.inference.exports.onnx.signals import signal_statistics
from driqa_jax.models.degradation_encoder import DegradationEncoder
from driqa_jax.models.efficientnet import LITE0
from driqa_jax.models.quality_encoder import STRIDE


def degradation_encoder(g: Graph, params: Params, module: DegradationEncoder, pixels: str, side: int) -> str:
    """The vector (M, C) of `DegradationEncoder`, of `pixels` (M, 3, side, side) uint8."""
    tiles = g("Mul", g.cast(pixels, np.float32), 1 / 255)
    x = layers.conv(g, params["full"], g("Sub", g("Add", tiles, tiles), 1.0), 3)
    x = g("LeakyRelu", x, alpha=0.1)
    mean, variance = _mean_and_variance(g, x)
    spread = g("Log", g("Add", variance, 1e-5))
    for number, channels in enumerate((*module.channels[1:], module.width), start=1):
        x = layers.conv(g, params[f"conv{number}"], x, 3, stride=2, bias=False)
        x = layers.group_norm(g, params[f"norm{number}"], x, 8, channels, side >> number)
        x = g("LeakyRelu", x, alpha=0.1)
    last_mean, last_variance = _mean_and_variance(g, x)
    pooled = [last_mean, g("Sqrt", last_variance), mean, spread]
    if module.statistics:
        known = signal_statistics(g, pixels, tiles, side)
        known = layers.standardize(g, params["standardize_statistics"], known)
        pooled.append(layers.gelu(g, layers.dense(g, params["statistics"], known)))
    vector = layers.mlp(g, params["vector"], g.join(pooled, 1))
    return layers.layer_norm(g, params["vector_norm"], vector)


def efficientnet(g: Graph, params: Params, pixels: str) -> list[str]:
    """`EfficientNetLite0` of `pixels` (B, 3, H, W) uint8."""
    x = g("Mul", g("Sub", g.cast(pixels, np.float32), 127.0), 1 / 128)
    x = layers.relu6(g, layers.normed(g, params["stem"], x, 3, 2))
    features = []
    for number, stage in enumerate(LITE0, start=1):
        for repeat in range(stage.repeats):
            step, alike = stage.stride if repeat == 0 else 1, repeat > 0
            block = params[f"stage{number}_block{repeat + 1}"]
            x = layers.inverted_residual(g, block, x, stage.kernel, step, alike)
        features.append(x)
    return [*features, layers.relu6(g, layers.normed(g, params["head"], x))]


def quality_moments(g: Graph, params: Params, pixels: str) -> tuple[str, str]:
    """`QualityEncoder.moments`: (B, F) and, with the cells in one axis, (B, N, F'')."""
    moments, cells = [], []
    features = efficientnet(g, params["backbone"], pixels)
    for number, (feature, stride) in enumerate(zip(features, _STRIDES, strict=True), start=1):
        mean, variance = _cell_moments(g, feature, STRIDE // stride)
        moments += _moments(g, mean, variance)
        if number < len(features):
            cells += [mean] if variance is None else [mean, _deviation(g, variance)]
    flat = g.reshape(g.join(cells, 1), 0, 0, -1)
    return g.join(moments, 1), g("Transpose", flat, perm=(0, 2, 1))


# Of the backbone's feature maps.
_STRIDES = (*(int(stride) for stride in 2 * np.cumprod([stage.stride for stage in LITE0])), STRIDE)


def _moments(g: Graph, mean: str, variance: str | None) -> tuple[str, str]:
    """`masked_moments` of a feature map whose cells have these moments."""
    first, total = _mean_and_variance(g, mean)
    if variance is not None:
        total = g("Add", total, g.mean(variance, 2, 3))
    return first, _deviation(g, total)


def _cell_moments(g: Graph, x: str, factor: int) -> tuple[str, str | None]:
    """Means over cells of factor x factor pixels and, if these are several, variances."""
    if factor == 1:
        return x, None
    sides = {"kernel_shape": [factor] * 2, "strides": [factor] * 2}
    mean, square = g("AveragePool", x, **sides), g("AveragePool", g("Mul", x, x), **sides)
    return mean, g("Max", g("Sub", square, g("Mul", mean, mean)), 0.0)


def _deviation(g: Graph, variance: str) -> str:
    return g("Sqrt", g("Add", variance, 1e-6))


def _mean_and_variance(g: Graph, x: str) -> tuple[str, str]:
    """Of each channel: (B, C)."""
    mean = g.mean(x, 2, 3, keep=True)
    return g("Squeeze", mean, [2, 3]), g.square_mean(g("Sub", x, mean), 2, 3)
