"""A scorer as one StableHLO file with its weights, for any batch size, that needs only JAX and numpy.

The file is an uncompressed zip archive of `metadata.json` and `scorer.jax_export` (for `jax.export.deserialize`).
docs/EXPORT.md explains how to prepare inputs and how to use the file without this package.
"""

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
# Canvas sides are multiples of this. Equal to `driqa_jax.data.views.STRIDE`, whose module needs Pillow.
CELL = 32

Views = Mapping[str, np.ndarray]


class Program:
    """A loaded export: maps batches of views to scores on JAX's first device.

    Attributes:
      metadata: `metadata.json`: `format`, `variant`, `licence`, `view` (the view rule), `calibration`, `degradations`
        (names of the T types), `provenance`, `model`, `sha256` (of the weights), `inputs`, `outputs`, `platforms`,
        `jax`.
      platforms: platforms that the program was lowered for.
    """

    def __init__(self, exported: jax.export.Exported, metadata: dict[str, Any]):
        self.metadata, self.platforms = metadata, tuple(exported.platforms)
        self._call = jax.jit(exported.call)

    def __call__(self, views: Views) -> dict[str, np.ndarray]:
        """Score a batch of views of one canvas; each new batch size or canvas compiles once.

        Args:
          views: stacked views from `driqa_jax.data.views.make_view` with the rule `metadata["view"]`: `whole`
            (B, H, W, 3) uint8, H and W multiples of 32; `valid` (B, 2) int32; `tiles` (B, K, S, S, 3) uint8;
            `tile_boxes` (B, K, 4) float32.

        Returns:
          `score` (B,) float32, 0 to 100, calibrated, not rounded; `mos` (B,), uncalibrated; `degradations` (B, T),
          probabilities of `metadata["degradations"]`; `severity` (B, T), 0 to 1; `patch_scores` and `patch_weights`
          (B, H / 32, W / 32), the quality map (MOS) and the patch weights, 0 outside the image.

        Raises ValueError, which names the input, if one is missing or has another shape or dtype.
        """
        self._check(views)
        outputs = self._call(*(views[name] for name in self.metadata["inputs"]))
        return {name: np.asarray(value) for name, value in outputs.items()}

    def _check(self, views: Views) -> None:
        expected = self.metadata["inputs"]
        if missing := sorted(expected.keys() - views.keys()):
            raise ValueError(f"views lack {', '.join(missing)}; give {', '.join(expected)}")
        batch = np.shape(views["whole"])[:1]
        for name, spec in expected.items():
            shape, dtype = np.shape(views[name]), np.asarray(views[name]).dtype
            fits = len(shape) == len(spec["shape"]) and all(
                want in ("B", "H", "W") or want == size for want, size in zip(spec["shape"], shape, strict=True)
            )
            if not fits or dtype != spec["dtype"] or shape[:1] != batch or not shape[0]:
                wanted = f"{spec['dtype']} ({', '.join(map(str, spec['shape']))})"
                raise ValueError(f"{name} is {dtype} {shape}, but must be {wanted} with the same B of at least 1")
        height, width = views["whole"].shape[1:3]
        if not height or not width or height % CELL or width % CELL:
            raise ValueError(f"whole is {height} x {width}, but its sides must be multiples of {CELL}")


def load(path: str | os.PathLike) -> Program:
    """Load a file written by `driqa export -o F.stablehlo`.

    Raises UserError if the file is absent, damaged, not an export, of another format, or written by a JAX whose
    programs this JAX cannot read.
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
        actual = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise UserError(f"{path}: format {actual!r}, expected {FORMAT!r}; export the model again with this version")
    try:
        exported = jax.export.deserialize(bytearray(data))
    except Exception as error:
        raise UserError(
            f"{path}: JAX {jax.__version__} cannot read the program, which JAX {metadata.get('jax')} wrote ({error})"
        ) from None
    return Program(exported, metadata)


def save(path: str | os.PathLike, scorer: Any) -> None:
    """Write a `driqa_jax.Scorer` as one file, atomically, with free batch size and canvas.

    Weights that float16 represents exactly are stored as float16, others as float32, so the export is lossless. Raises
    UserError if the file cannot be written.
    """
    inputs = _inputs(scorer.rule)
    program = jax.jit(_program(scorer))
    b, h, w = jax.export.symbolic_shape("b, h, w")
    free = {"B": b, "H": CELL * h, "W": CELL * w}
    arguments = [
        jax.ShapeDtypeStruct(tuple(free.get(size, size) for size in spec["shape"]), spec["dtype"])
        for spec in inputs.values()
    ]
    exported = jax.export.export(program, platforms=PLATFORMS)(*arguments)
    metadata = {
        **scorer.metadata,
        "format": FORMAT,
        "model": os.path.basename(os.path.normpath(scorer.name)),  # the folder is private
        "sha256": scorer.sha256,
        "inputs": inputs,
        "outputs": list(jax.tree.unflatten(exported.out_tree, exported.out_avals)),
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((METADATA, json.dumps(metadata, indent=2)), (PROGRAM, bytes(exported.serialize()))):
            archive.writestr(zipfile.ZipInfo(name), content)  # fixed date, so equal models give equal bytes
    write_bytes(path, buffer.getvalue())


def _inputs(rule: Any) -> dict[str, dict[str, Any]]:
    """Names, shapes and dtypes of the program's arguments in order; B, H and W are free."""
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

    def score(whole: jax.Array, valid: jax.Array, tiles: jax.Array, tile_boxes: jax.Array) -> dict[str, jax.Array]:
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
