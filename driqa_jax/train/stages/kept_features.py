"""What the parts that stand still see of pictures, computed once and kept: the input of the stage "heads".

Two stores, since they depend on different things: `quality`, what the backbone sees of the whole picture, and `tiles`,
what `E_d` and `R` see of the tiles. A row of the table of ablations that changes neither shares both with the others;
one with another `R` shares the larger by far, `quality`. A picture is kept as it is, not mirrored too: that would
double time and disk, and what is pooled over a picture hardly knows left from right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from driqa_jax import distributed
from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.pipeline import evaluation_batches
from driqa_jax.data.source import Source, Subset
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import chosen
from driqa_jax.models.driqa import Features
from driqa_jax.progress import Progress
from driqa_jax.train.stages import finetune

DTYPES = ("float16", "float32")
CHUNK, BATCH = 256, 16
_CHECKED = 4


class Store(NamedTuple):
    """What a store holds: of which parameters and switches, and how a batch of views becomes its arrays."""

    params: Callable
    switches: tuple[str, ...]
    look: Callable


def _quality(model, params, batch):
    whole, valid, *_ = finetune.as_inputs(batch)
    moments, cells = model.apply({"params": params}, whole, valid, method="look_at_quality")
    return {"moments": moments, "cells": cells, "valid": valid}


def _tiles(model, params, batch):
    *_, tiles, boxes = finetune.as_inputs(batch)
    vector, tokens, levels = model.apply({"params": params}, tiles, method="look_at_tiles")
    seen = {"vector": vector, "tokens": tokens, **{f"level{i}": level for i, level in enumerate(levels)}}
    return {**{name: x.reshape(*tiles.shape[:2], *x.shape[1:]) for name, x in seen.items()}, "tile_boxes": boxes}


STORES = {
    "quality": Store(
        lambda params: {"quality_encoder": {"backbone": params["quality_encoder"]["backbone"]}}, ("quality",), _quality
    ),
    "tiles": Store(
        lambda params: {name: params[name] for name in ("degradation_encoder", "restoration")},
        ("condition", "inject"),
        _tiles,
    ),
}
# What must stay as it is: places and sizes.
_EXACT = ("valid", "tile_boxes")


class KeptFeatures:
    """The features of the pictures of a source under these parameters; what is missing is computed at once.

    Raises:
      UserError: the folder cannot be written, or holds features of other pictures of the same names.
    """

    def __init__(self, config: ml_collections.ConfigDict, model, params: dict, source: Source):
        if config.cache.dtype not in DTYPES:
            raise UserError(f"config.cache.dtype is {config.cache.dtype!r}; the choices are {', '.join(DTYPES)}")
        self._names = names_of(source)
        self._stores = {}
        for name, store in STORES.items():
            own = store.params(params)
            key = {
                "format": 1,
                "variant": config.model.variant,
                "switches": {switch: chosen(config.model)[switch] for switch in store.switches},
                "view": {**finetune.view_rule(config, config.view.eval_tiles).to_dict(), "canvases": []},
                "canvas": list(config.view.canvas),
                "dtype": config.cache.dtype,
                "params": params_sha256(own),
            }
            self._stores[name] = FeatureStore(config.cache.folder, name, key)
            _fill(config, model, store, own, self._stores[name], source, f"{name} of {source.name}")

    def read(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The arrays of these rows of the source; see `as_features`."""
        names = self._names[np.asarray(rows)].tolist()
        return {key: array for store in self._stores.values() for key, array in store.read(names).items()}


def names_of(source: Source) -> np.ndarray:
    """A name for each picture, (N,) str, that no two data sets share."""
    return np.char.add(np.char.add(source.column("dataset"), "/"), source.column("image_id"))


def as_features(batch: dict[str, jax.Array]) -> Features:
    """The arrays of a batch, as kept, to what `DRIQA.from_features` takes; float32 only once on the device."""
    wide = {name: x.astype(np.float32) for name, x in batch.items() if name not in ("valid", "index", "dataset")}
    levels = [wide[f"level{i}"] for i in range(sum(name.startswith("level") for name in batch))]
    vector, tokens, *levels = (x.reshape(-1, *x.shape[2:]) for x in (wide["vector"], wide["tokens"], *levels))
    return Features(wide["moments"], wide["cells"], batch["valid"], vector, tokens, levels, wide["tile_boxes"])


def _fill(config, model, store, params, kept, source, said):
    names = names_of(source)
    known = [row for row, name in enumerate(names.tolist()) if name in kept]
    for row in known[:: max(1, len(known) // _CHECKED)]:
        if not kept.is_of(str(names[row]), source.read(row)):
            raise UserError(f"{kept.path} holds features of another picture named {names[row]}; remove that folder")
    missing = np.setdiff1d(np.arange(len(names)), known)
    if not len(missing):
        return
    # Every host computes for itself: the folder may be its own.
    mesh = distributed.make_mesh(jax.local_devices())
    look = jax.jit(lambda params, batch: store.look(model, params, batch))
    rule, canvas = finetune.view_rule(config, config.view.eval_tiles), tuple(config.view.canvas)
    size = -(-BATCH // mesh.size) * mesh.size
    placed_params = distributed.replicate(params, mesh)
    with Progress() as progress:
        for start in range(0, len(missing), CHUNK):
            part = Subset(source, missing[start : start + CHUNK], source.name)
            found = []
            for batch in evaluation_batches(part, rule, canvas, size, threads=config.data.threads):
                real = int(batch["real"].sum())
                seen = look(placed_params, distributed.place_batch(batch, mesh))
                found.append({name: np.asarray(x)[:real] for name, x in seen.items()})
            arrays = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
            # Too large a value becomes an infinity, which the store refuses with a word of advice.
            with np.errstate(over="ignore"):
                small = {k: x if k in _EXACT else x.astype(config.cache.dtype) for k, x in arrays.items()}
            kept.add(names_of(part).tolist(), [part.read(i) for i in range(len(part))], small)
            progress(said, min(start + CHUNK, len(missing)), len(missing))
