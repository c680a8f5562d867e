"""Weights files: one float16 safetensors file whose header describes the model and how to use it.

Tensors have flat names ("quality_encoder/vector/kernel"). The header's metadata: `format` ("driqa_jax/1"), `variant`
and `licence`, plain text; `config` (of the model), `view`, `calibration`, `degradations` (names of the types) and
`provenance`, JSON; optionally `interval`, see `driqa_jax.inference.conformal`.
"""

import contextlib
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from driqa_jax.errors import UserError
from driqa_jax.io import file_sha256 as file_sha256
from driqa_jax.io import write_bytes

FORMAT = "driqa_jax/1"
TEXT_KEYS = ("format", "variant", "licence")
JSON_KEYS = {"config": dict, "view": dict, "calibration": dict, "degradations": list, "provenance": dict}
OPTIONAL_KEYS = {"interval": dict}
_TYPES = {**JSON_KEYS, **OPTIONAL_KEYS}  # other keys hold text
_TENSORS_IN_ERRORS = 4

Params = dict[str, Any]


class WeightsError(UserError):
    """A weights file cannot be used; the message names the file."""


def save_weights(path: str | os.PathLike, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Write parameters (nested mapping of arrays) as float16 with their metadata; returns the file's sha256.

    The write is atomic, and equal input gives equal bytes.

    Args:
      metadata: `variant`, `licence` str; `config`, `view`, `calibration`, `provenance` mappings or ConfigDicts;
        `degradations` a sequence of str; or any of these as JSON text. `format` is added.

    Raises:
      WeightsError: the metadata lack a key or hold a value of another type.
      ValueError: a parameter is not floating point, not finite, or too large for float16.
    """
    tensors = {name: _as_float16(name, value) for name, value in sorted(flatten(params).items())}
    if not tensors:
        raise ValueError(f"{path}: no parameters to save")
    decoded = decode_metadata({"format": FORMAT, **metadata}, path).items()
    header = {k: json.dumps(x, sort_keys=True, allow_nan=False) if k in _TYPES else x for k, x in decoded}
    data = _sorted_header(safetensors.numpy.save(tensors, header))
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_weights(path: str | os.PathLike) -> tuple[Params, dict[str, Any]]:
    """Parameters, a nested dict of float32 arrays, and the decoded metadata.

    Raises WeightsError if the file is missing, is no weights file of this project, or has a tensor that is not finite.
    """
    with _opened(path) as file:
        metadata = decode_metadata(file.metadata() or {}, path)
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise WeightsError(f"{path}: the tensor {name} has non-finite values")
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
        raise WeightsError(f"{path}: not a complete safetensors file ({error})") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def check_tensors(path: str | os.PathLike, tensors: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises WeightsError unless flat `tensors` have the names and shapes of flat `expected`."""
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tuple(tensors[name].shape) != tuple(expected[name].shape)
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    if any(problems.values()):
        text = "; ".join(f"{problem}: {_first_few(names)}" for problem, names in problems.items() if names)
        raise WeightsError(f"{path}: the tensors are not those of the model ({text})")


def params_sha256(params: Mapping[str, Any]) -> str:
    """sha256 of the names, dtypes, shapes and bytes of nested parameters."""
    return _sha256((name, np.asarray(value, order="C")) for name, value in sorted(flatten(params).items()))


def params_sha256_of(path: str | os.PathLike) -> str:
    """`params_sha256` of what `load_weights` gives, one tensor in memory at a time. Raises WeightsError."""
    with _opened(path) as file:
        return _sha256((name, file.get_tensor(name).astype(np.float32)) for name in sorted(file.keys()))


def _sha256(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, array in tensors:
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.ravel())
    return digest.hexdigest()


def bundled(name: str) -> pathlib.Path:
    """The file of the bundled weights `name`. Raises WeightsError, listing the names, for another name."""
    files = bundled_files()
    if name not in files:
        names = ", ".join(files) or "none"
        raise WeightsError(
            f"no model {name!r}: give a bundled model ({names}), a .safetensors file, or the workdir of a training"
        )
    return files[name]


def bundled_files() -> dict[str, pathlib.Path]:
    """The weights in the package: name -> file."""
    folder = pathlib.Path(str(importlib.resources.files("driqa_jax") / "weights"))
    return dict(sorted((file.stem, file) for file in folder.glob("*.safetensors")))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as a flat one with keys joined by "/". Raises ValueError for a key that contains one."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(f"{prefix}{key!r}: a parameter name must be a non-empty str without '/'")
        flat.update(flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def unflatten(*parts: Mapping[str, Any]) -> Params:
    """The inverse of `flatten`; flat parts make one nested tree."""
    tree: Params = {}
    for name, value in (item for part in parts for item in part.items()):
        *folders, last = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = value
    return tree


def _as_float16(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: a parameter must be floating point, got {array.dtype}")
    with np.errstate(over="ignore"):
        small = array.astype(np.float16, order="C")
    if not np.isfinite(small).all():
        largest = np.abs(array).max()
        raise ValueError(f"{name}: not finite as float16 (its largest magnitude is {largest}, float16 ends at 65504)")
    return small


def decode_metadata(header: Mapping[str, Any], source: str | os.PathLike) -> dict[str, Any]:
    """Metadata with the JSON values of `JSON_KEYS` and `OPTIONAL_KEYS` decoded; errors name `source`.

    Other keys hold text. `calibration` may be null. Raises WeightsError for a missing key, a value of another type, or
    another format.
    """
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{source}: format {header.get('format')!r}, expected {FORMAT!r}; "
            f"this version of driqa_jax cannot read these weights"
        )
    if missing := [key for key in (*TEXT_KEYS, *JSON_KEYS) if key not in header]:
        raise WeightsError(f"{source}: the metadata lack the key {missing[0]!r}")
    metadata: dict[str, Any] = {}
    for key, value in header.items():
        kind = _TYPES.get(key, str)
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


def _sorted_header(data: bytes) -> bytes:
    """The same file with a sorted header; the library's order of metadata changes between runs."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _first_few(names: list[str]) -> str:
    more = len(names) - _TENSORS_IN_ERRORS
    return ", ".join(names[:_TENSORS_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
