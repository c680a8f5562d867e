"""Emitters of layers: the counterparts of `driqa_jax.models.layers`, `flax.linen` and `driqa_jax.models.efficientnet`.

An emitter takes the graph, the parameters of its module and its inputs, and returns the names of its outputs. Images
and feature maps are (B, C, H, W).
"""

import math

import numpy as np

from driqa_jax.inference.exports.onnx.graph import Graph, Params

_NORM_EPSILON = 1e-6  # of flax


def dense(g: Graph, params: Params, x: str) -> str:
    """`Dense`: (..., C) -> (..., features)."""
    return g("Add", g("MatMul", x, params.read(g, "kernel")), params.read(g, "bias"))


def gelu(g: Graph, x: str) -> str:
    """GELU by tanh, written as x * sigmoid(2 u), which is the same."""
    inner = g("Mul", x, g("Add", g("Mul", g("Mul", x, x), 0.044715), 1.0))
    return g("Mul", x, g("Sigmoid", g("Mul", inner, 2 * math.sqrt(2 / math.pi))))


def mlp(g: Graph, params: Params, x: str) -> str:
    """`MLP`."""
    return dense(g, params["out"], gelu(g, dense(g, params["hidden"], x)))


def standardize(g: Graph, params: Params, x: str) -> str:
    """`Standardize`."""
    shifted = g("Mul", g("Sub", x, params.read(g, "shift")), params.read(g, "scale"))
    return g("Clip", shifted, -8.0, 8.0)


def layer_norm(g: Graph, params: Params, x: str) -> str:
    """`flax.linen.LayerNorm`."""
    return g("LayerNormalization", x, params.read(g, "scale"), params.read(g, "bias"), epsilon=_NORM_EPSILON)


def group_norm(g: Graph, params: Params, x: str, groups: int, channels: int, side: int) -> str:
    """`flax.linen.GroupNorm` of (M, channels, side, side)."""
    flat = g.reshape(x, 0, groups, -1)
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    normed = g.reshape(g("InstanceNormalization", flat, ones, zeros, epsilon=_NORM_EPSILON), 0, channels, side, side)
    # As a convolution, the runtime computes it together with the activation, in the layout of the next convolution.
    scale = params.read(g, "scale", lambda value: value.reshape(-1, 1, 1, 1))
    return g("Conv", normed, scale, params.read(g, "bias"), group=channels, kernel_shape=[1, 1])


def conv(g: Graph, params: Params, x: str, kernel: int, stride: int = 1, bias: bool = True) -> str:
    """`flax.linen.Conv` with 'SAME' padding, of sides that the stride divides."""
    weight = params.read(g, "kernel", lambda value: value.transpose(3, 2, 0, 1))
    inputs = (x, weight, *((params.read(g, "bias"),) if bias else ()))
    return g("Conv", *inputs, **_same(kernel, stride))


def normed(g: Graph, params: Params, x: str, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> str:
    """`Normed`."""

    def arranged(value):
        if kernel == 1:
            return value.T[:, :, None, None]
        return value[:, :, None].transpose(3, 2, 0, 1) if depthwise else value.transpose(3, 2, 0, 1)

    channels = params.shape("bias")[0]
    # The runtime multiplies when it loads the file. The factors are exact in float16, their product is not.
    scale = params.read(g, "scale", lambda value: value.reshape(-1, 1, 1, 1))
    weight = g("Mul", params.read(g, "kernel", arranged), scale)
    groups = channels if depthwise else 1
    return g("Conv", x, weight, params.read(g, "bias"), group=groups, **_same(kernel, stride))


def inverted_residual(g: Graph, params: Params, x: str, kernel: int, stride: int, alike: bool) -> str:
    """`InvertedResidual`; `alike`: whether input and output have one shape."""
    inner = x
    if "expand" in params:
        inner = relu6(g, normed(g, params["expand"], inner))
    inner = relu6(g, normed(g, params["depthwise"], inner, kernel, stride, depthwise=True))
    inner = normed(g, params["project"], inner)
    return g("Add", inner, x) if alike else inner


def relu6(g: Graph, x: str) -> str:
    """min(max(x, 0), 6)."""
    return g("Clip", x, 0.0, 6.0)


def _same(kernel: int, stride: int) -> dict:
    """Attributes of a convolution with 'SAME' padding of sides that the stride divides."""
    total = kernel - stride
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [total // 2] * 2 + [total - total // 2] * 2}
