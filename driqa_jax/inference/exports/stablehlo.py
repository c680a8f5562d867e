"""A scorer as one file that needs JAX and numpy alone: the program in StableHLO, its weights inside, any batch.

The file is a zip archive, stored: `metadata.json`, and `scorer.jax_export`, which `jax.export.deserialize` reads.
docs/EXPORT.md says how to prepare its inputs, and how to use it without this package.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.io import write_bytes

FORMAT = "driqa_jax/stablehlo/1"
PLATFORMS = ("cpu", "cuda", "tpu")
METADATA, PROGRAM = "metadata.json", "scorer.jax_export"
# Side of a cell of the canvas: its sides are multiples of it. `driqa_jax.data.views.STRIDE`, not imported, since
# that module needs Pillow.
CELL = 32
_NEEDS = "jax.export needs flatbuffers, which `pip install driqa_jax` brings; pip install flatbuffers"

Views = Mapping[str, np.ndarray]


class Program:
    """A loaded export: batches of views in, scores out, on the first device of JAX.

    Attributes:
      metadata: what stands in `metadata.json`: `format`, `variant`, `licence`, `view` (the rule that cuts views),
        `calibration`, `degradations` (names of the T types), `provenance`, `model`, `sha256` (of the weights),
        `inputs`, `outputs`, `platforms`, `jax`.
      platforms: those that the program was lowered for.
    """

    def __init__(self, exported: jax.export.Exported, metadata: dict[str, Any]):
        self.metadata, self.platforms = metadata, tuple(exported.platforms)
        self._call = jax.jit(exported.call)

    def __call__(self, views: Views) -> dict[str, np.ndarray]:
        """Score a batch of views of one canvas; another batch size or canvas compiles once more.

        Args:
          views: `whole` (B, H, W, 3) uint8, H and W multiples of 32; `valid` (B, 2) int32; `tiles` (B, K, S, S, 3)
            uint8; `tile_boxes` (B, K, 4) float32; as `driqa_jax.data.views.make_view` cuts them by
            `metadata["view"]`, stacked.

        Returns:
          `score` (B,) float32, 0 to 100, calibrated, not rounded; `mos` (B,), the model's own, before calibration;
          `degradations` (B, T), probabilities of the types that `metadata["degradations"]` names; `severity`
          (B, T), 0 to 1; `patch_scores`, `patch_weights` (B, H / 32, W / 32), the quality map (MOS) and how much
          each patch counts, 0 beyond the picture.

        Raises:
          ValueError: an input is missing, or of another shape or dtype; the message names it.
        """
        self._check(views)
        found = self._call(*(views[name] for name in self.metadata["inputs"]))
        return {name: np.asarray(value) for name, value in found.items()}

    def _check(self, views: Views) -> None:
        expected = self.metadata["inputs"]
        if missing := sorted(expected.keys() - views.keys()):
            raise ValueError(f"views lack {', '.join(missing)}; give {', '.join(expected)}")
        batch = np.shape(views["whole"])[:1]
        for name, said in expected.items():
            array, free = views[name], ("B", "H", "W")
            shape, dtype = np.shape(array), np.asarray(array).dtype
            fits = len(shape) == len(said["shape"]) and all(
                want in free or want == size for want, size in zip(said["shape"], shape, strict=True)
            )
            if not fits or dtype != said["dtype"] or shape[:1] != batch or not shape[0]:
                wanted = f"{said['dtype']} ({', '.join(map(str, said['shape']))})"
                raise ValueError(f"{name} is {dtype} {shape}, but must be {wanted}, of one batch B of at least 1")
        height, width = views["whole"].shape[1:3]
        if not height or not width or height % CELL or width % CELL:
            raise ValueError(f"whole is {height} x {width}, but its sides must be multiples of {CELL}")


def load(path: str | os.PathLike) -> Program:
    """The program of a file that `driqa export -o F.stablehlo` wrote; of this package it needs nothing else.

    Raises UserError, naming the file: absent, no such export, of another format, damaged, or of a JAX whose programs
    this one cannot read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA))
            data = archive.read(PROGRAM)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a whole export of driqa_jax to StableHLO ({error})") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        said = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise UserError(f"{path}: format {said!r}, expected {FORMAT!r}; export the model again with this version")
    try:
        exported = jax.export.deserialize(bytearray(data))
    except ImportError:
        raise UserError(_NEEDS) from None
    except Exception as error:
        raise UserError(
            f"{path}: JAX {jax.__version__} cannot read the program, which JAX {metadata.get('jax')} wrote ({error})"
        ) from None
    return Program(exported, metadata)


def save(path: str | os.PathLike, scorer: Any) -> None:
    """Write a `driqa_jax.Scorer` as one file; it appears whole or not at all.

    The batch and the canvas stay free; the picture's uint8 views go in. Weights that are float16 numbers are stored
    as such, the rest as float32, so nothing is lost. Raises UserError where the file cannot be written.
    """
    inputs = _inputs(scorer.rule)
    program = jax.jit(_program(scorer))
    b, h, w = jax.export.symbolic_shape("b, h, w")
    free = {"B": b, "H": CELL * h, "W": CELL * w}
    arguments = [
        jax.ShapeDtypeStruct(tuple(free.get(size, size) for size in said["shape"]), said["dtype"])
        for said in inputs.values()
    ]
    exported = jax.export.export(program, platforms=PLATFORMS)(*arguments)
    try:
        data = exported.serialize()
    except ImportError:
        raise UserError(_NEEDS) from None
    metadata = {
        **scorer.metadata,
        "format": FORMAT,
        "model": os.path.basename(os.path.normpath(scorer.name)),  # where it lay is nobody's business
        "sha256": scorer.sha256,
        "inputs": inputs,
        "outputs": list(exported.out_tree.unflatten(exported.out_avals)),
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((METADATA, json.dumps(metadata, indent=2).encode()), (PROGRAM, bytes(data))):
            archive.writestr(zipfile.ZipInfo(name), content)  # a fixed date: the time of day is no part of a model
    write_bytes(path, buffer.getvalue())


def _inputs(rule: Any) -> dict[str, dict[str, Any]]:
    """Names, shapes and dtypes of the program's arguments, in order; B, H and W are free."""
    return {
        "whole": {"shape": ["B", "H", "W", 3], "dtype": "uint8"},
        "valid": {"shape": ["B", 2], "dtype": "int32"},
        "tiles": {"shape": ["B", rule.tiles, rule.tile, rule.tile, 3], "dtype": "uint8"},
        "tile_boxes": {"shape": ["B", rule.tiles, 4], "dtype": "float32"},
    }


def _program(scorer: Any) -> Callable[..., dict[str, jax.Array]]:
    from driqa_jax.inference.functional import calibrated

    stored = jax.tree.map(_smallest, jax.device_get(scorer.params))
    model, calibration = scorer.model, scorer.calibration

    def score(whole, valid, tiles, tile_boxes):
        params = jax.tree.map(lambda value: jnp.asarray(value).astype(jnp.float32), stored)
        whole, tiles = (pixels.astype(jnp.float32) / 255.0 for pixels in (whole, tiles))
        mos, out = model.apply({"params": params}, whole, valid, tiles, tile_boxes)
        return {
            "score": jnp.clip(100.0 * calibrated(mos, calibration), 0.0, 100.0),
            "mos": mos,
            "degradations": jax.nn.sigmoid(out["degradation_logits"]),
            **{name: out[name] for name in ("severity", "patch_scores", "patch_weights")},
        }

    return score


def _smallest(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = np.asarray(value, np.float16)
    return half if np.array_equal(half.astype(np.float32), value) else np.asarray(value, np.float32)
