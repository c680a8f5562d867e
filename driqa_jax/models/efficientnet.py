"""EfficientNet-Lite0 with frozen batch norms, as a backbone that returns every stage.

Source: TensorFlow's EfficientNet-Lite (Apache-2.0): no squeeze-and-excite, ReLU6, input `(x * 255 - 127) / 128`,
'SAME' padding, batch norm epsilon 1e-3. `pretrained.imagenet_weights` reads its ImageNet weights.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.models.layers import valid_mask
from driqa_jax.models.ops import depthwise_conv


class Stage(NamedTuple):
    """`repeats` inverted residual blocks; only the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 6.0)


class Normed(nn.Module):
    """A convolution with its frozen batch norm: `conv(x, kernel * scale) + bias`, in the kernel's dtype.

    The scale stays separate from the kernel. Folded in, it would leave kernels whose magnitudes differ a hundredfold,
    and Adam's equal steps would destroy the small ones.
    A 1x1 kernel is (I, O), computed as a matrix product, which on CPUs is over twice as fast as a convolution; a
    depthwise one is (k, k, C); others are HWIO.
    """

    features: int  # output channels; 0 for a depthwise convolution
    kernel: int = 1  # side of the kernel
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, outputs = x.shape[-1], self.features or x.shape[-1]
        square = (self.kernel, self.kernel)
        shape = (inputs, outputs) if self.kernel == 1 else (*square, *((inputs,) * bool(self.features)), outputs)
        in_axis = tuple(range(len(shape) - 1))
        fan = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=in_axis, out_axis=-1)
        w = self.param("kernel", fan, shape)
        scale = self.param("scale", nn.initializers.ones, (outputs,))
        bias = self.param("bias", nn.initializers.zeros, (outputs,))
        w = w * scale.reshape((1,) * (w.ndim - 1) + (-1,))
        x = x.astype(w.dtype)
        if self.kernel == 1:
            out = (x.reshape(-1, inputs) @ w).reshape(*x.shape[:-1], outputs)
        elif not self.features:
            out = depthwise_conv(x, w, self.stride)
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            out = lax.conv_general_dilated(x, w, (self.stride,) * 2, "SAME", dimension_numbers=layout)
        return out + bias[None, None, None, :]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; add the input if the shapes match."""

    kernel: int
    stride: int
    expand: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        inner = x
        if self.expand != 1:
            inner = _relu6(Normed(self.expand * x.shape[-1], name="expand")(inner))
        # Zeros outside the image act like 'SAME' padding, so the canvas never changes a feature.
        inner = jnp.where(mask, inner, 0.0)
        inner = _relu6(Normed(0, self.kernel, self.stride, name="depthwise")(inner))
        inner = Normed(self.channels, name="project")(inner)
        return inner + x if inner.shape == x.shape else inner


class EfficientNetLite0(nn.Module):
    """The backbone.

    The input is images (B, H, W, 3) float in [0, 1] with sides divisible by 32, and `valid` (B, 2) int, the rows and
    columns that the image covers (multiples of 32). The output is eight feature maps, the seven stages and the head, at
    strides 2, 4, 8, 16, 16, 32, 32, 32 with 16, 24, 40, 80, 112, 192, 320, 1280 channels. Values outside the valid part
    are undefined and do not affect those inside. `remat` recomputes each block in the backward pass to save memory.
    """

    channels = tuple(stage.channels for stage in LITE0) + (HEAD,)
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        def mask(x: jax.Array, stride: int) -> jax.Array:
            return valid_mask(valid, x.shape[1], x.shape[2], stride)

        x = jnp.where(mask(images, 1), (images * 255.0 - 127.0) / 128.0, 0.0)
        x = _relu6(Normed(STEM, 3, 2, name="stem")(x))
        block_class = nn.remat(InvertedResidual) if self.remat else InvertedResidual
        features, stride = [], 2
        for number, stage in enumerate(LITE0, start=1):
            for repeat in range(stage.repeats):
                step, name = stage.stride if repeat == 0 else 1, f"stage{number}_block{repeat + 1}"
                x = block_class(stage.kernel, step, stage.expand, stage.channels, name=name)(x, mask(x, stride))
                stride *= step
            features.append(x)
        features.append(_relu6(Normed(HEAD, name="head")(x)))
        return features
