"""Emitters of layers: the counterparts of `driqa_jax.models.layers`, `flax.linen` and `driqa_jax.models.efficientnet`.

An emitter takes the graph, the parameters of its module and its inputs, and returns the names of its outputs. Images
and feature maps are (B, C, H, W).
"""

import math

import numpy as np

from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.models.quality_encoder import STRIDE

_NORM_EPSILON = 1e-6  # of flax
_OUTSIDE = -1e4  # what a pixel outside the image adds before a ReLU6: more than a feature can undo
# Channels of `outside` for a kernel of this side. The stem then has 4 inputs, and others keep a multiple of 8, as the
# fast convolutions of ONNX Runtime need.
_MASKS = {3: 1, 1: 8}


class Canvas:
    """Canvases of one size and the images at their top left.

    Attributes:
      rows, columns: (B, 1) int64, what an image covers, in cells of 32 pixels.
      height, width: () int64, the canvas in cells.
      covered: whether each image covers its canvas, so that nothing is masked.
    """

    def __init__(self, rows: str, columns: str, height: str, width: str, covered: bool):
        self.rows, self.columns, self.height, self.width, self.covered = rows, columns, height, width, covered
        self._masks: dict[int, str] = {}

    def mask(self, g: Graph, stride: int) -> str:
        """(B, 1, H / stride, W / stride) float32, 1 inside the image."""
        if stride not in self._masks:
            cells, sides = STRIDE // stride, []
            for used, full, shape in (
                (self.rows, self.height, (0, 1, -1, 1)),
                (self.columns, self.width, (0, 1, 1, -1)),
            ):
                places = g("Range", np.int64(0), g("Mul", full, np.int64(cells)), np.int64(1))
                inside = g("Less", g("Unsqueeze", places, [0]), g("Mul", used, np.int64(cells)))
                sides.append(g.reshape(inside, *shape))
            self._masks[stride] = g.cast(g("And", *sides), np.float32)
        return self._masks[stride]

    def outside(self, g: Graph, stride: int, kernel: int) -> str | None:
        """The argument `outside` of `normed` for an input of this stride."""
        if self.covered:
            return None
        return g.join([g("Sub", 1.0, self.mask(g, stride))] * _MASKS[kernel], 1)

    def pixels(self, g: Graph, stride: int) -> str:
        """() float32: the pixels of a feature map at this stride."""
        return g.cast(g("Mul", g("Mul", self.height, self.width), np.int64((STRIDE // stride) ** 2)), np.float32)

    def weights(self, g: Graph, stride: int) -> str | None:
        """(B, H / stride * W / stride, 1) float32, equal inside the image, 0 outside, sum 1; None if all are equal."""
        if self.covered:
            return None
        flat = g.reshape(self.mask(g, stride), 0, -1, 1)
        return g("Div", flat, g.sum(flat, 1, keep=True))

    def places(self, g: Graph, axis: int) -> str:
        """(B, h) or (B, w) float32: centers of the cells along `axis` as fractions of the image."""
        used, full = ((self.rows, self.height), (self.columns, self.width))[axis]
        centers = g("Add", g.cast(g("Range", np.int64(0), full, np.int64(1)), np.float32), 0.5)
        return g("Div", g("Unsqueeze", centers, [0]), g.cast(used, np.float32))


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


def normed(
    g: Graph,
    params: Params,
    x: str,
    kernel: int = 1,
    stride: int = 1,
    depthwise: bool = False,
    outside: str | None = None,
) -> str:
    """`Normed`; `outside` (B, c, H, W): where it is 1, the result is far below 0, so that a ReLU makes it 0."""

    def arranged(value):
        if kernel == 1:
            return value.T[:, :, None, None]
        return value[:, :, None].transpose(3, 2, 0, 1) if depthwise else value.transpose(3, 2, 0, 1)

    channels = params.shape("bias")[0]
    # The runtime multiplies when it loads the file. The factors are exact in float16, their product is not.
    scale = params.read(g, "scale", lambda value: value.reshape(-1, 1, 1, 1))
    weight = g("Mul", params.read(g, "kernel", arranged), scale)
    if outside is not None:
        # An extra input costs less than a product with the mask, since it comes before the channels multiply.
        penalty = np.zeros((channels, _MASKS[kernel], kernel, kernel), np.float32)
        penalty[:, :, 0, 0] = _OUTSIDE  # at even places the first tap lies on the output's own pixel
        x, weight = g.join([x, outside], 1), g.join([weight, penalty], 1)
    groups = channels if depthwise else 1
    return g("Conv", x, weight, params.read(g, "bias"), group=groups, **_same(kernel, stride))


def inverted_residual(
    g: Graph, params: Params, x: str, kernel: int, stride: int, alike: bool, outside: str | None
) -> str:
    """`InvertedResidual`; `alike`: whether input and output have one shape. `outside`: of the input, None: nowhere."""
    inner = x
    if "expand" in params:
        inner = relu6(g, normed(g, params["expand"], inner, outside=outside))
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
