"""Public weights of `vit.ViT` from a local file: the ViT authors' augreg .npz, or timm's .safetensors.

Nothing is downloaded and nothing in a file is executed. Classifier heads are not read.
"""

import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import safetensors

from driqa_jax.errors import UserError
from driqa_jax.models.vit import GRID, PATCH, ViT

WHERE = (
    "such files are the ViT authors' augreg .npz (github.com/google-research/vision_transformer) and timm's "
    "model.safetensors (huggingface.co/timm, vit_small_patch16_224 for s, vit_base_patch16_224 for b)"
)
_HEADS = ("head", "pre_logits", "fc_norm")
_NAMED = 4  # how many tensors an error names


class _Tensors:
    """The tensors of one file, taken one by one; what is asked for must be there and have its shape."""

    def __init__(self, path: str, names: list[str], read: Callable[[str], np.ndarray], size: str):
        self.path, self.left, self._read, self._size = path, set(names), read, size

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        """The tensor `name`, float32, of this shape. Raises UserError naming it."""
        if name not in self.left:
            raise UserError(f"{self.path}: no tensor {name!r}, which {self._size} has; {WHERE}")
        self.left.remove(name)
        value = np.asarray(self._read(name))
        if value.shape != shape:
            raise UserError(
                f"{self.path}: {name} is {value.shape}; {self._size} has {shape}. Is it a file of another size of "
                f"network, of patches, or of pictures? {WHERE}"
            )
        value = value.astype(np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{self.path}: {name} holds values that are not finite")
        return value


def read_vit(path: str | os.PathLike, vit: ViT) -> dict:
    """Parameters of `vit` from a file.

    Args:
      path: of either format; its content tells which.
      vit: the module that the file shall fit, in width, heads and depth.

    Returns:
      A nested dictionary of float32 numpy arrays, as `vit.init` gives.

    Raises:
      UserError: no such file, another format, a tensor missing, of another shape, not finite, or one that this network
        has no place for; the message names file, tensor and shape.
    """
    said = os.fspath(path)
    size = f"a ViT of width {vit.width}, {vit.heads} heads, {vit.depth} blocks, patches of {PATCH}"
    if not pathlib.Path(path).is_file():
        raise UserError(f"{said}: no such file; {WHERE}")
    # Both libraries raise nearly anything for bytes that they do not know.
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as file:
                return _whole(_Tensors(said, file.files, file.__getitem__, size), vit, _from_augreg)
        with safetensors.safe_open(said, framework="numpy") as file:
            return _whole(_Tensors(said, list(file.keys()), file.get_tensor, size), vit, _from_timm)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{said}: neither an .npz nor a .safetensors of plain tensors ({error}); {WHERE}") from error


def _whole(take, vit, convert):
    params = convert(take, vit)
    left = sorted(name for name in take.left if not name.startswith(_HEADS))
    if left:
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        raise UserError(
            f"{take.path}: a network of another kind; there is no place for {', '.join(left[:_NAMED])}{more}. {WHERE}"
        )
    return params


def _with_embedding(params, token, positions, kernel, bias):
    """The class token takes in its own position, the first; others go to their cells."""
    width = token.shape[-1]
    return {
        **params,
        "class_token": token[0, 0] + positions[0, 0],
        "positions": positions[0, 1:].reshape(GRID, GRID, width),
        "patch": {"kernel": np.ascontiguousarray(kernel).reshape(-1, width), "bias": bias},
    }


def _from_augreg(take, vit):
    """Kernels are (in, out); those of attention keep heads apart."""
    width, heads = vit.width, (vit.heads, vit.width // vit.heads)

    def norm(name):
        return {key: take(f"Transformer/{name}/{key}", width) for key in ("scale", "bias")}

    def dense(name, inputs, outputs):
        return {"kernel": take(f"{name}/kernel", inputs, outputs), "bias": take(f"{name}/bias", outputs)}

    params = {"norm": norm("encoder_norm")}
    for number in range(vit.depth):
        name = f"encoderblock_{number}"
        place = f"Transformer/{name}/MultiHeadDotProductAttention_1"
        attention = {
            key: {
                "kernel": take(f"{place}/{key}/kernel", width, *heads).reshape(width, width),
                "bias": take(f"{place}/{key}/bias", *heads).reshape(width),
            }
            for key in ("query", "key", "value")
        }
        attention["out"] = {
            "kernel": take(f"{place}/out/kernel", *heads, width).reshape(width, width),
            "bias": take(f"{place}/out/bias", width),
        }
        mlp = f"Transformer/{name}/MlpBlock_3"
        params[f"block{number + 1}"] = {
            "attention_norm": norm(f"{name}/LayerNorm_0"),
            "attention": attention,
            "mlp_norm": norm(f"{name}/LayerNorm_2"),
            "mlp": {
                "hidden": dense(f"{mlp}/Dense_0", width, 4 * width),
                "out": dense(f"{mlp}/Dense_1", 4 * width, width),
            },
        }
    return _with_embedding(
        params,
        take("cls", 1, 1, width),
        take("Transformer/posembed_input/pos_embedding", 1, 1 + GRID**2, width),
        take("embedding/kernel", PATCH, PATCH, 3, width),
        take("embedding/bias", width),
    )


def _from_timm(take, vit):
    """Weights are (out, in); query, key and value lie in one, in this order."""
    width = vit.width

    def norm(name):
        return {"scale": take(f"{name}.weight", width), "bias": take(f"{name}.bias", width)}

    def dense(name, inputs, outputs):
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
        params[f"block{number + 1}"] = {
            "attention_norm": norm(f"{name}.norm1"),
            "attention": attention,
            "mlp_norm": norm(f"{name}.norm2"),
            "mlp": {
                "hidden": dense(f"{name}.mlp.fc1", width, 4 * width),
                "out": dense(f"{name}.mlp.fc2", 4 * width, width),
            },
        }
    return _with_embedding(
        params,
        take("cls_token", 1, 1, width),
        take("pos_embed", 1, 1 + GRID**2, width),
        take("patch_embed.proj.weight", width, 3, PATCH, PATCH).transpose(2, 3, 1, 0),
        take("patch_embed.proj.bias", width),
    )
