"""The stage "heads", stage 2 on kept features: read-outs, interaction and predictor learn; the rest is frozen.

Modules, losses and checkpoints are those of the stage "finetune", and a checkpoint holds a whole model. A run takes
minutes on two CPU cores, which makes a table of ablations over several splits affordable. The trade-off: the backbone
stays ImageNet's, and every image is read at fixed tiles and never mirrored.

The features of the frozen parts are computed once per image, in two stores because they depend on different
parameters: `quality` holds the backbone's features of the whole image, `tiles` those of `E_d` and `R` on the tiles.
Ablations that change neither part share both; one with another `R` shares `quality`, by far the larger. Mirrored images
are not kept: they would double time and disk, and pooled features barely distinguish left from right.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from driqa_jax import distributed
from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.pipeline import Place, dataset_codes, evaluation_batches, labeled, order_of
from driqa_jax.data.source import Source, Subset
from driqa_jax.errors import UserError, require_choice
from driqa_jax.models.ablations import chosen
from driqa_jax.models.driqa import DRIQA, Features, build_model
from driqa_jax.progress import Progress
from driqa_jax.train import initialization
from driqa_jax.train.auxiliary import registry, rs_terms
from driqa_jax.train.stages import finetune
from driqa_jax.train.step import Loss

CHUNK, BATCH = 256, 16
_CHECKED_IMAGES = 4
_EXACT = ("valid", "tile_boxes")  # positions and sizes, which are not rounded to config.cache.dtype


def params(config: ConfigDict, model: DRIQA, source: Source) -> dict:
    """Initial parameters; only `E_d` and `R` are taken from `config.init`.

    Raises UserError as `initialization.finetuning_params`, or if an ablation trains a part that this stage freezes.
    """
    fresh = encoders(config)
    features = KeptFeatures(config, model, fresh, source).read(initialization.measured_rows(source))
    return initialization.standardized(fresh, [(features["moments"], features["cells"], features["valid"])])


def batches(
    config: ConfigDict, source: Source, start_step: int, process_index: int, process_count: int
) -> Iterator[dict[str, np.ndarray]]:
    """The endless stream of batches, from any step, with the images in the order of `finetune_batches`.

    Raises UserError if an image has no score.
    """
    finetune.require_scores(source)
    kept = KeptFeatures(config, build_model(config.model), encoders(config), source)
    order, codes = order_of(source, config.seed), dataset_codes(source)
    share = config.batch_size // process_count
    for step in itertools.count(start_step):
        first = step * config.batch_size + process_index * share
        positions = range(first, first + share)
        rows = [order(position) for position in positions]
        labels = [labeled(source, codes, row, position) for row, position in zip(rows, positions, strict=True)]
        yield {**kept.read(rows), **{key: np.stack([each[key] for each in labels]) for key in labels[0]}}


def make_loss(config: ConfigDict, model: DRIQA) -> Loss:
    """The loss of the stage "finetune"; raises UserError for an RS loss that needs more than kept features."""

    def look(params, batch, keys):
        return model.apply({"params": params}, as_features(batch), keys, method="from_features")

    return finetune.loss_of(config, look, rs_terms.selected(config, rs_terms.OF_FEATURES))


def predict(config: ConfigDict, model: DRIQA, mesh: jax.sharding.Mesh) -> Callable:
    """(params, source) -> predicted and true MOS, (N,) float64 each, in the source's order."""
    forward = jax.jit(
        lambda params, batch: model.apply({"params": params}, as_features(batch), method="from_features")[0]
    )
    size = -(-config.batch_size // mesh.size) * mesh.size

    def run(params, source):
        kept = KeptFeatures(config, model, params, source)
        count, host, hosts = len(source), jax.process_index(), jax.process_count()
        share, predicted = size // hosts, []
        for start in range(0, count, size):
            # The last image fills the last batch.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            batch = distributed.place_batch(kept.read(rows[host * share : (host + 1) * share]), mesh)
            predicted.append(distributed.to_host(forward(params, batch))[: count - start])
        return np.concatenate(predicted).astype(np.float64), source.column("mos").astype(np.float32).astype(np.float64)

    return run


@functools.lru_cache(maxsize=1)  # both `params` and `batches` of a run need it
def encoders(config: FrozenConfigDict) -> dict:
    """Frozen parts and new parameters for the rest. Raises UserError as `params`, before features are computed."""
    rs_terms.selected(config, rs_terms.OF_FEATURES)
    for name in registry.AUXILIARY:
        if config.loss[name]:
            raise UserError(
                f"config.loss.{name} needs pixels, but 'heads' keeps features; train with config.stage=finetune"
            )
    for name, unchanged in (("shrink", 1.0), ("quality", 100)):
        if config.view[name] < unchanged:
            raise UserError(
                f"config.view.{name} changes an image at each step, but features are kept once; set it to {unchanged}"
            )
    if config.model.restoration == "finetune":
        raise UserError(
            "config.model.restoration='finetune' trains R, but the stage 'heads' keeps the features of a fixed R; "
            "train with config.stage=finetune"
        )
    return initialization.encoders(config, build_model(config.model))


class Store(NamedTuple):
    """A feature store.

    params: (parameters of the model) -> those that the features depend on.
    switches: the ablations that the features depend on.
    look: (model, these parameters, batch of views) -> arrays by name.
    """

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
    arrays = {"vector": vector, "tokens": tokens, **{f"level{i}": level for i, level in enumerate(levels)}}
    return {**{name: x.reshape(*tiles.shape[:2], *x.shape[1:]) for name, x in arrays.items()}, "tile_boxes": boxes}


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


class KeptFeatures:
    """The features of a source's images with these parameters; the constructor computes the missing ones.

    Raises UserError if the folder cannot be written, or holds features of other images with the same names.
    """

    def __init__(self, config: ConfigDict, model: DRIQA, params: dict, source: Source):
        require_choice("cache.dtype", config.cache.dtype, ("float16", "float32"))
        self._names = _names_of(source)
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
            look = jax.jit(functools.partial(store.look, model))
            _fill(config, look, own, self._stores[name], source, f"{name} of {source.name}")

    def read(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The arrays of these rows of the source; see `as_features`."""
        names = self._names[np.asarray(rows)].tolist()
        return {key: array for store in self._stores.values() for key, array in store.read(names).items()}


def as_features(batch: dict[str, jax.Array]) -> Features:
    """A batch of kept arrays to the input of `DRIQA.from_features`; the conversion to float32 is on the device."""
    wide = {name: x.astype(np.float32) for name, x in batch.items() if name not in ("valid", "index", "dataset")}
    levels = [wide[f"level{i}"] for i in range(sum(name.startswith("level") for name in batch))]
    vector, tokens, *levels = (x.reshape(-1, *x.shape[2:]) for x in (wide["vector"], wide["tokens"], *levels))
    return Features(wide["moments"], wide["cells"], batch["valid"], vector, tokens, levels, wide["tile_boxes"])


def _names_of(source: Source) -> np.ndarray:
    """A name for each image, (N,) str, unique across data sets."""
    return np.char.add(np.char.add(source.column("dataset"), "/"), source.column("image_id"))


def _fill(config, look, params, kept: FeatureStore, source: Source, label: str) -> None:
    names = _names_of(source)
    known = [row for row, name in enumerate(names.tolist()) if name in kept]
    for row in known[:: max(1, len(known) // _CHECKED_IMAGES)]:
        if not kept.is_of(str(names[row]), source.read(row)):
            raise UserError(f"{kept.path} holds features of another image named {names[row]}; remove that folder")
    missing = np.setdiff1d(np.arange(len(names)), known)
    if not len(missing):
        return
    # Every host computes all features, because the folder may be local to it.
    mesh = distributed.make_mesh(jax.local_devices())
    rule, canvas = finetune.view_rule(config, config.view.eval_tiles), tuple(config.view.canvas)
    size = -(-BATCH // mesh.size) * mesh.size
    placed_params = distributed.replicate(params, mesh)
    with Progress() as progress:
        for start in range(0, len(missing), CHUNK):
            part = Subset(source, missing[start : start + CHUNK], source.name)
            batches = []
            for batch in evaluation_batches(part, rule, canvas, size, Place(threads=config.data.threads)):
                real = int(batch["real"].sum())
                arrays = look(placed_params, distributed.place_batch(batch, mesh))
                batches.append({name: np.asarray(x)[:real] for name, x in arrays.items()})
            arrays = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}
            # A value too large for the dtype becomes infinity, which the store refuses.
            with np.errstate(over="ignore"):
                small = {k: x if k in _EXACT else x.astype(config.cache.dtype) for k, x in arrays.items()}
            kept.add(_names_of(part).tolist(), [part.read(i) for i in range(len(part))], small)
            progress(label, min(start + CHUNK, len(missing)), len(missing))
