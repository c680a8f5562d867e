"""Which program computes the scores of a model: JAX, or ONNX Runtime with the model's ONNX file."""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
from typing import Any

from driqa_jax.checkpoints.weights import bundled_files, file_sha256, load_metadata, params_sha256_of
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.inference.effort import look
from driqa_jax.inference.onnx_executor import OnnxModel

RUNTIMES = ("auto", "jax", "onnx")


def onnx_for(model: str, runtime: str, effort: str, device: Any = None) -> OnnxModel | None:
    """The ONNX file to score `model` with, or None for JAX.

    - "onnx": the file itself if `model` is one, else the one beside the weights, NAME.onnx beside NAME.safetensors.
    - "jax": None.
    - "auto": as "onnx" on a CPU if there is such a file, it has the parameters of the weights, and it can be used;
      otherwise None. A file that is there but cannot be used gives one line on standard error.

    Args:
      model: as for `driqa_jax.load`.
      runtime: one of `RUNTIMES`.
      effort: as for `driqa_jax.load`.
      device: of JAX; None leaves the choice.

    Raises UserError: unknown runtime; an ONNX file as `model` that cannot be used; with "onnx", no usable file, one of
    other parameters, or a device of JAX.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if device is not None and runtime == "onnx":
        raise UserError(f"device={device} belongs to JAX; leave it out with the runtime onnx")
    if pathlib.Path(model).suffix == ".onnx" and model not in bundled_files():
        return None if runtime == "jax" else _fitting(OnnxModel(model), effort)
    if runtime == "jax" or device is not None:
        return None
    weights = bundled_files().get(model, pathlib.Path(model))
    beside = weights.with_suffix(".onnx") if weights.suffix == ".safetensors" else None
    if runtime == "onnx":
        if beside is None or not beside.is_file():
            expected = "beside its .safetensors file" if beside is None else f"as {beside}"
            raise UserError(
                f"{model}: has no ONNX file {expected}; write one with `driqa export`, or use --runtime jax"
            )
        return _of_weights(beside, weights, effort)
    if beside is None or not beside.is_file() or not weights.is_file() or not _usable():
        return None
    try:
        return _of_weights(beside, weights, effort)
    except UserError as error:
        print(f"warning: {error}; scoring with JAX", file=sys.stderr)
        return None


def _of_weights(path: pathlib.Path, weights: pathlib.Path, effort: str) -> OnnxModel:
    """The file with the metadata of the weights, whose calibration may be newer."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashes while ONNX Runtime loads the file
        params_sha256, sha256 = (pool.submit(function, weights) for function in (params_sha256_of, file_sha256))
        found, metadata = OnnxModel(path), load_metadata(weights)
    if found.params_sha256 != params_sha256.result():
        raise UserError(f"{path}: was written from other weights than those of {weights}; export it again")
    found.metadata, found.sha256 = metadata, sha256.result()
    return _fitting(found, effort)


def _fitting(found: OnnxModel, effort: str) -> OnnxModel:
    needed = look(ViewRule.from_dict(found.metadata["view"]), effort).rule.tile
    if needed != found.tile:
        raise UserError(
            f"{found.path}: reads tiles of {found.tile} pixels, but the effort {effort!r} needs {needed}; choose "
            "another effort, or the runtime jax"
        )
    return found


def _usable() -> bool:
    """Whether ONNX Runtime is installed, and JAX, which is imported only if it may have an accelerator, is on a CPU."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms.split(",")[0] == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not plugins and not any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")):
        return True
    import jax

    return jax.default_backend() == "cpu"
