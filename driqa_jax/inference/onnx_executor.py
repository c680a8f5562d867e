"""Runs a model's ONNX export in ONNX Runtime on the CPU. It imports neither JAX nor Flax, and compiles nothing."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from driqa_jax.checkpoints.weights import JSON_KEYS, OPTIONAL_KEYS
from driqa_jax.data.views import VIEWS, mirrored
from driqa_jax.errors import UserError
from driqa_jax.inference.stream import cores

FORMAT = "driqa_jax/onnx/1"
INSTALL = "pip install 'driqa_jax[onnx]'"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_JSON = (*JSON_KEYS, *OPTIONAL_KEYS)
_PREDICTED = ("mos", "per_tile_mos", "degradations")
# What an explanation reads, by the names of the graph's outputs.
_INTERMEDIATES = {
    "patch_scores": "scores",
    "degradations": "probabilities",
    "severity": "severities",
    "d": "d",
    "q": "q",
    "cell_visibility": "prominence",
    "drops": "strength",
}


class OnnxModel:
    """An ONNX file of `driqa_jax.inference.exports.onnx` that reads views.

    Attributes:
      path: the file.
      metadata: as `load_weights` gives it, and further keys of the file.
      params_sha256: of the parameters, see `driqa_jax.checkpoints.weights.params_sha256`.
      sha256: the same, or the sha256 of the weights file beside the ONNX file.
      explained_tiles: the least number of tiles for an explanation.
      version: of ONNX Runtime.

    Raises UserError, which names the file: ONNX Runtime is not installed; the file is absent, damaged, no export of
    this project, of another format, or reads images instead of views.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        # ONNX Runtime reports its use to its maker unless this is set before its import; a scorer should not.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path}: needs onnxruntime, which is not installed: {INSTALL}") from None
        _set_malloc(_M_MMAP_THRESHOLD, 1 << 16)  # or glibc would keep the memory of weights that loading has replaced
        options = onnxruntime.SessionOptions()
        # Several images run at the same time, each on one core. So the bits of a score depend on no other image.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            self.path.open("rb").close()
            self.session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except Exception as error:  # ONNX Runtime has a type for each failure
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{path}: not a complete ONNX file ({reason}); export the model again") from None
        _set_malloc(_M_MMAP_THRESHOLD, 1 << 21)  # the arrays of an image: the next one uses their memory again
        _set_malloc(_M_TRIM_THRESHOLD, 1 << 24)
        held = self.session.get_modelmeta().custom_metadata_map
        if held.get("format") != FORMAT:
            raise UserError(f"{path}: format {held.get('format')!r}, expected {FORMAT!r}; export the model again")
        if held.get("input") != "views":
            raise UserError(f"{path}: reads {held.get('input')!r}, but scoring needs an export that reads views")
        self.metadata: dict[str, Any] = {k: json.loads(v) if k in _JSON else v for k, v in held.items()}
        self.params_sha256 = self.sha256 = held["params_sha256"]
        self.explained_tiles = int(held["explained_tiles"])
        self.version: str = onnxruntime.__version__

    @property
    def tile(self) -> int:
        """The side of the tiles that the graph reads, pixels."""
        return next(each.shape[2] for each in self.session.get_inputs() if each.name == "tiles")


def _set_malloc(option: int, size: int) -> None:
    """Sets from which size on glibc returns freed memory to the system: single arrays, or the end of the heap."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(option, size)


class OnnxExecutor:
    """An `OnnxModel` for one effort, with the interface of `driqa_jax.inference.jax_executor.JaxExecutor`."""

    name, on_cpu, batch_size = "onnx", True, 1
    packages = ("onnxruntime", "numpy", "pillow")
    restores = False  # only the form "deduction" can be exported

    def __init__(self, onnx: OnnxModel, mirror: bool, naming: bool = False):
        self._naming = naming
        self._session, self._mirror, self.parallel = onnx.session, mirror, cores()
        self.described = f"cpu: ONNX Runtime {onnx.version}"
        self.explained_tiles = onnx.explained_tiles

    def predictions(self, views: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, 1 + N) float32 of a batch of views: the MOS, then the per-tile MOS, as `make_stages` describes it."""
        mos, tiles, named = self._run(_PREDICTED, views)
        parts = [mos[:, None], tiles]
        if self._mirror:
            seen = dict(zip(VIEWS, mirrored(*(views[name] for name in VIEWS)), strict=True))
            again, more, _ = self._run(_PREDICTED, seen)
            parts = [(mos[:, None] + again[:, None]) / np.float32(2), tiles, more]
        return np.concatenate([*parts, named] if self._naming else parts, axis=1)

    def intermediates(self, views: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `driqa_jax.inference.explain.Explainer`."""
        found = dict(zip(_INTERMEDIATES.values(), self._run(tuple(_INTERMEDIATES), views), strict=True))
        # The form "deduction" names what a person sees, and its cells count alike.
        return {**found, "visibility": found["probabilities"], "weights": np.ones_like(found["scores"])}

    def _run(self, names: tuple[str, ...], views: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of a batch, computed row by row, so that a row does not depend on the others."""
        rows = [self._session.run(names, inputs_of(views, row)) for row in range(len(views["valid"]))]
        return [np.concatenate(each) for each in zip(*rows, strict=True)]


def inputs_of(views: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """What the graph reads of one row of a batch of views: all but the padding."""
    height, width = views["valid"][row]
    read = {"whole": views["whole"][:, :height, :width], "tiles": views["tiles"], "tile_boxes": views["tile_boxes"]}
    return {name: np.ascontiguousarray(value[row : row + 1]) for name, value in read.items()}
