"""A scorer as one ONNX file with its weights, which ONNX Runtime runs in any language.

docs/EXPORT.md describes the inputs, the outputs and the metadata. Needs the package `onnx`.
"""

import json
import os
from typing import Any

import numpy as np

from driqa_jax.checkpoints.load import LoadedModel, require_params
from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.views import ViewRule, tile_fractions
from driqa_jax.errors import UserError
from driqa_jax.inference.calibration import Calibration
from driqa_jax.inference.conformal import UNKNOWN, Interval
from driqa_jax.inference.effort import look
from driqa_jax.inference.exports.onnx.deduction import deduction_model
from driqa_jax.inference.exports.onnx.graph import Graph, Params
from driqa_jax.inference.exports.onnx.views import image_in, image_sides, views_in
from driqa_jax.inference.onnx_executor import FORMAT
from driqa_jax.io import write_bytes
from driqa_jax.models.deduction import DeductionModel
from driqa_jax.models.driqa import build_model
from driqa_jax.models.efficientnet import EfficientNetLite0
from driqa_jax.version import VERSION


def save(path: str | os.PathLike, loaded: LoadedModel, name: str, kind: str = "image") -> None:
    """Write a model as one ONNX file, atomically; equal models give equal bytes.

    Args:
      path: the file.
      loaded: the model.
      name: of the model, for messages and metadata.
      kind: "image": the file reads one image of any size; "views": batches of views, as a StableHLO file.

    Raises UserError for another model than the form "deduction" of the variant "lite", for a view rule that reduces
    images below `short` and `long` to fit a canvas, and if the file cannot be written.
    """
    config, rule = loaded.config, look(ViewRule.from_dict(loaded.metadata["view"]), "default").rule
    model = build_model(config)
    _require_supported(model, config, rule, name)
    require_params(loaded, model)
    g, params = Graph(), Params(loaded.params)
    views = (image_in if kind == "image" else views_in)(g, rule)
    found = deduction_model(g, params, model, views)
    finish = _image_outputs if kind == "image" else _views_outputs
    outputs = finish(g, found, views, loaded.metadata, rule)
    if unknown := params.unread():
        raise ValueError(f"{name}: the export to ONNX does not know the parameters {', '.join(unknown)}")
    metadata = _metadata(loaded, name, kind)
    write_bytes(path, g.model(_inputs(kind, rule), outputs, metadata, ("driqa_jax", VERSION)))


def _require_supported(model: Any, config: Any, rule: ViewRule, name: str) -> None:
    if not isinstance(model, DeductionModel) or not isinstance(model.quality_encoder.backbone, EfficientNetLite0):
        raise UserError(
            f"{name}: only the form 'deduction' of the variant 'lite' can be written as ONNX, not the form "
            f"{config.get('form', 'interaction')!r} of {config.variant!r}; write a .stablehlo file instead"
        )
    canvases = [sorted(canvas) for canvas in rule.canvases]
    wide, tall = (any(c[i] >= rule.short and c[1 - i] >= rule.long for c in rule.canvases) for i in (0, 1))
    if rule.kind != "dual" or rule.tile % 32 or not (wide and tall):
        raise UserError(
            f"{name}: an ONNX file needs a dual view with tiles of a multiple of 32 pixels and canvases that hold "
            f"{rule.short}x{rule.long}, got {rule.kind}, tiles of {rule.tile} and {canvases}"
        )


def _inputs(kind: str, rule: ViewRule) -> list:
    if kind == "image":
        return [("image", np.uint8, ["H", "W", 3])]
    return [
        ("whole", np.uint8, ["B", "H", "W", 3]),
        ("tiles", np.uint8, ["B", "K", rule.tile, rule.tile, 3]),
        ("tile_boxes", np.float32, ["B", "K", 4]),
    ]


def _views_outputs(g: Graph, found: dict, views: Any, metadata: dict, rule: ViewRule) -> list:
    del views, rule
    calibration, types = Calibration.from_dict(metadata.get("calibration")), len(metadata["degradations"])
    values = {
        "score": (_points(g, found["mos"], calibration), ["B"]),
        "mos": (found["mos"], ["B"]),
        "degradations": (found["visibility"], ["B", types]),
        "severity": (found["severity"], ["B", types]),
        "patch_scores": (found["patch_scores"], ["B", "h", "w"]),
        **{name: (found[name], ["B", "h", "w", types]) for name in ("drops", "cell_visibility")},
        "per_tile_mos": (found["per_tile_mos"], ["B", "K"]),
        "d": (found["d"], ["B", "C"]),
        "q": (found["q"], ["B", "Q"]),
    }
    return _named(g, values)


def _image_outputs(g: Graph, found: dict, views: Any, metadata: dict, rule: ViewRule) -> list:
    del views
    calibration, interval = Calibration.from_dict(metadata.get("calibration")), metadata.get("interval")
    values = {"score": (_points(g, found["mos"], calibration), [1])}
    if interval:
        tiles = g("Mul", _points(g, found["per_tile_mos"], calibration), 0.01)
        values["uncertainty"] = (_uncertainty(g, tiles, Interval.from_dict(interval), rule), [1])
    values["findings"] = (g("Squeeze", found["visibility"], [0]), [len(metadata["degradations"])])
    values["map"] = (_points(g, g("Squeeze", found["patch_scores"], [0]), calibration), ["h", "w"])
    return _named(g, values)


def _named(g: Graph, values: dict) -> list:
    return [(g("Identity", value, name=name), np.float32, shape) for name, (value, shape) in values.items()]


def _points(g: Graph, mos: str, calibration: Calibration) -> str:
    """Scores from 0 to 100 of uncalibrated MOS, any shape."""
    if calibration.width is not None:
        curve = g("Sigmoid", g("Mul", g("Sub", mos, calibration.centre), 1 / calibration.width))
        mos = g("Add", g("Mul", curve, calibration.span), calibration.low)
    return g("Clip", g("Mul", mos, 100.0), 0.0, 100.0)


def _uncertainty(g: Graph, per_tile: str, interval: Interval, rule: ViewRule) -> str:
    """`100 * Interval(tile_spread(per_tile), evidence)`: (1,), of `per_tile` (1, K) in MOS."""
    sides, tile = image_sides(g), np.float64(rule.tile)
    filled = g("Min", sides, tile)
    detail = g("Div", g("ReduceProd", filled, [0]), tile * tile)
    if rule.tiles == 1:
        spread = np.zeros(1, np.float32)
    else:
        centered = g("Sub", per_tile, g.mean(per_tile, 1, keep=True))
        variance = g("Mul", g.sum(g("Mul", centered, centered), 1), 1 / (rule.tiles - 1))
        fractions = tile_fractions(rule.tiles)
        distance = np.abs(fractions[:, None] - fractions[None, :]).reshape(1, -1)
        free = g("Div", g("Max", g("Sub", sides, tile), np.float64(0)), filled)
        overlaps = g("Sub", np.float64(1), g("Mul", g("Unsqueeze", free, [1]), distance))
        overlap = g("ReduceProd", g.mean(g("Clip", overlaps, np.float64(0), np.float64(1)), 1), [0])
        overlap = g(
            "Div", g("Sub", g("Mul", overlap, np.float64(rule.tiles)), np.float64(1)), np.float64(rule.tiles - 1)
        )
        independence = g("Min", g("Mul", g("Sub", np.float64(1), overlap), np.float64(2)), np.float64(1))
        unknown = g("Mul", g("Sub", np.float64(1), independence), np.float64(UNKNOWN * interval.floor))
        spread = g("Max", g("Sqrt", variance), g.cast(unknown, np.float32))
    scale = g("Div", g("Add", spread, interval.floor), g("Sqrt", g.cast(detail, np.float32)))
    return g("Mul", g("Min", g("Mul", scale, interval.factor), 1.0), 100.0)


def _metadata(loaded: LoadedModel, name: str, kind: str) -> dict[str, str]:
    """Plain text, or JSON for what is no text."""
    known = loaded.metadata
    values = {
        "format": FORMAT,
        "input": kind,
        "model": os.path.basename(os.path.normpath(name)),  # the folder is private
        "variant": known["variant"],
        "licence": known["licence"],
        "explained_tiles": str(DeductionModel.explained_tiles),
        "params_sha256": params_sha256(loaded.params),
        "view": known["view"],
        "calibration": known.get("calibration") or {},
        "interval": known.get("interval") or {},
        "degradations": list(known["degradations"]),
        "provenance": known.get("provenance") or {},
        "config": loaded.config.to_dict(),
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in values.items()
    }
