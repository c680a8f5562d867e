"""Weights files: one safetensors file, float16, that says in its header what it is and how to use it.

Tensors have flat names ("quality_encoder/vector/kernel"). The header's metadata: `format` ("driqa_jax/1"),
`variant` and `licence`, plain text; `config` (of the model), `view`, `calibration`, `degradations` (the names
of the types) and `provenance`, JSON; and, where one was fitted, `interval`, see `driqa_jax.inference.conformal`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from driqa_jax.errors import UserError
from driqa_jax.io import write_bytes

FORMAT = "driqa_jax/1"
TEXT_KEYS = ("format", "variant", "licence")
JSON_KEYS = {"config": dict, "view": dict, "calibration": dict, "degradations": list, "provenance": dict}
MAY_LACK = {"interval": dict}
_NAMED = 4  # how many tensors an error names

Params = dict[str, Any]


class WeightsError(UserError):
    """A weights file that cannot be used; the message names the file."""


def save_weights(path: str | os.PathLike, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Write parameters (nested mapping of arrays) as float16, and what they are; returns the file's sha256.

    `metadata`: `variant`, `licence` str; `config`, `view`, `calibration`, `provenance` mappings (a ConfigDict
    will do); `degradations` a sequence of str; or any of the latter as JSON text. `format` is added. Equal
    input gives equal bytes. The file appears whole or not at all.

    Raises WeightsError for metadata that lack a key or have a value of another type, ValueError for a
    parameter that is not floating point, not finite, or too large for float16.
    """
    tensors = {name: _as_float16(name, value) for name, value in sorted(flatten(params).items())}
    if not tensors:
        raise ValueError(f"{path}: there are no parameters to save")
    header = _encoded(decode_metadata({"format": FORMAT, **metadata}, path))
    data = _sorted_header(safetensors.numpy.save(tensors, header))
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_weights(
    path: str | os.PathLike, variant: str | None = None, expected: Mapping[str, Any] | None = None
) -> tuple[Params, dict[str, Any]]:
    """Parameters, a nested dict of float32 arrays, and the metadata, decoded.

    `variant`: the one that is wanted. `expected`: a nested mapping of arrays or shape structs that the
    parameters must match in names and shapes. Raises WeightsError naming the file: absent, no weights file of
    this project, another variant (both are named), tensors missing, unexpected, of another shape (the first
    few are named), or not finite.
    """
    with _opened(path) as file:
        metadata = decode_metadata(file.metadata() or {}, path)
        if variant is not None and metadata["variant"] != variant:
            raise WeightsError(
                f"{path}: weights of the variant {metadata['variant']!r}, but {variant!r} was asked for; "
                f"name the variant of the file, or give another file"
            )
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise WeightsError(f"{path}: the tensor {name} holds values that are not finite")
    if expected is not None:
        check_tensors(path, tensors, flatten(expected))
    return unflatten({name: tensor.astype(np.float32) for name, tensor in tensors.items()}), metadata


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The decoded metadata of a weights file; reads no tensor. Raises WeightsError as `load_weights` does."""
    with _opened(path) as file:
        return decode_metadata(file.metadata() or {}, path)


@contextlib.contextmanager
def _opened(path):
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def check_tensors(path: str | os.PathLike, tensors: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises WeightsError where flat `tensors` are not, in names and shapes, the flat `expected`."""
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tuple(tensors[name].shape) != tuple(expected[name].shape)
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    if any(found.values()):
        said = "; ".join(f"{what}: {_first_few(names)}" for what, names in found.items() if names)
        raise WeightsError(f"{path}: the tensors are not those of the model ({said})")


def file_sha256(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def params_sha256(params: Mapping[str, Any]) -> str:
    """sha256 of parameters that are in no file: of their names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten(params).items()):
        array = np.asarray(value, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def bundled(name: str) -> pathlib.Path:
    """The file of the bundled weights `name`. Raises WeightsError listing the names."""
    files = bundled_files()
    if name not in files:
        names = ", ".join(files) or "none"
        raise WeightsError(
            f"no model {name!r}: bundled are {names}; or give a .safetensors file, or a training's workdir"
        )
    return files[name]


def bundled_files() -> dict[str, pathlib.Path]:
    """The weights that come with the package: name -> file."""
    folder = pathlib.Path(str(importlib.resources.files("driqa_jax") / "weights"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as a flat one, keys joined by "/". Raises ValueError for a key that holds one."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(f"{prefix}{key!r}: a parameter's name is a text without '/'")
        flat.update(flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> Params:
    """The inverse of `flatten`."""
    tree: Params = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return tree


def _as_float16(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: a parameter is floating point, got {array.dtype}")
    with np.errstate(over="ignore"):
        small = array.astype(np.float16, order="C")
    if not np.isfinite(small).all():
        largest = np.abs(array).max()
        raise ValueError(f"{name}: not finite as float16 (its largest magnitude is {largest}, float16 ends at 65504)")
    return small


def decode_metadata(header: Mapping[str, Any], source: str | os.PathLike) -> dict[str, Any]:
    """Metadata with the values of `JSON_KEYS` and `MAY_LACK` decoded, where they are text; `source` stands in errors.

    Other keys hold text and pass. `calibration` may be null. Raises WeightsError for a key that is absent or
    holds a value of another type, and for another format.
    """
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{source}: format {header.get('format')!r}, expected {FORMAT!r}; "
            f"not weights that this version of driqa_jax can read"
        )
    metadata: dict[str, Any] = {}
    for key in (*TEXT_KEYS, *JSON_KEYS):
        if key not in header:
            raise WeightsError(f"{source}: the metadata lack {key!r}")
    for key, value in header.items():
        kind = {**JSON_KEYS, **MAY_LACK}.get(key, str)
        try:
            value = json.loads(value) if kind is not str and isinstance(value, str) else value
        except json.JSONDecodeError as error:
            raise WeightsError(f"{source}: {key!r} in the metadata is not JSON ({error})") from None
        value = value.to_dict() if hasattr(value, "to_dict") else value  # a ConfigDict
        value = list(value) if kind is list and isinstance(value, tuple) else value
        value = {} if key == "calibration" and value is None else value
        if not isinstance(value, kind):
            raise WeightsError(
                f"{source}: {key!r} in the metadata is a {type(value).__name__}, expected a {kind.__name__}"
            )
        metadata[key] = value
    return metadata


def _encoded(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: json.dumps(value, sort_keys=True, allow_nan=False) if key in {**JSON_KEYS, **MAY_LACK} else value
        for key, value in metadata.items()
    }


def _sorted_header(data: bytes) -> bytes:
    """The same file with its header in sorted order: the library's own order of metadata changes by run."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _first_few(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
