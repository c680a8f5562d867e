"""The inference program: a batch of views to predictions, bitwise independent of the rest of the batch.

A model with `stages` (see `driqa_jax.models.driqa.DRIQA`) gets a program per stage. They compile in parallel,
each with its fastest options; XLA generates slower code for the whole model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from driqa_jax.data import views as numpy_views
from driqa_jax.data.views import VIEWS

Views = dict[str, jax.Array]
PREDICTIONS = "predictions"
QUALITY = "read_quality"  # the stage that runs the quality backbone
_READ, _NAMED = "read_", "named"
mirrored = functools.partial(numpy_views.mirrored, xp=jnp)
# Scoring several images in parallel uses the cores better than multi-threaded matrix products.
_SERIAL = {"xla_cpu_multi_thread_eigen": False}
# Fusions for the library YNN speed up the convolutions of the quality backbone by a third. In the other stages they
# gain nothing, and their graphs, built in the first call, would delay the first score by a third of a second.
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_CPU, _CPU_CONVOLUTIONS = {**_SERIAL, _YNN: ""}, {**_SERIAL, _YNN: "LIBRARY_FUSION_TYPE_DOT"}


class Stage(NamedTuple):
    """A function `(params, views) -> arrays`, whose arrays join the views, and XLA compiler options.

    Options that XLA does not know are dropped; they change the speed, not the scores.
    """

    function: Callable[[Any, Views], Views]
    options: Mapping[str, Any]


def make_stages(model: Any, mirror: bool, cpu: bool, naming: bool = False) -> tuple[Stage, ...]:
    """The stages for batches of views from `make_view`.

    The last stage adds `PREDICTIONS`, (B, 1 + N) float32: the MOS, then the per-tile MOS. N is K, or 2 K with `mirror`,
    which averages the MOS over each image and its mirror image. With `cpu`, rows are computed one by one, because the
    bits of a row may otherwise depend on its place in the batch.

    With `naming`, one more stage appends the prominence of the T types to the predictions, (B, 1 + N + T). It is a
    program of its own, so that the other columns keep their bits.
    """
    looks = 2 if mirror else 1

    def inputs(views):
        """Views as floats and outputs of earlier stages, of all images and then of all mirror images."""
        whole, tiles = (views[key].astype(jnp.float32) / 255.0 for key in ("whole", "tiles"))
        seen = (whole, views["valid"], tiles, views["tile_boxes"])
        if mirror:
            seen = tuple(jnp.concatenate(pair) for pair in zip(seen, mirrored(*seen), strict=True))
        read = {key.removeprefix(_READ): value for key, value in views.items() if key.startswith(_READ)}
        joined = {key: value.swapaxes(0, 1).reshape(-1, *value.shape[2:]) for key, value in read.items()}
        return {**dict(zip(VIEWS, seen, strict=True)), **joined}

    def part(method):
        def run(params, views):
            arrays = model.apply({"params": params}, inputs(views), method=method)
            # Rows of images (B, looks, ...), because stages run row by row.
            split = {key: value.reshape(looks, -1, *value.shape[1:]) for key, value in arrays.items()}
            return {_READ + key: value.swapaxes(0, 1) for key, value in split.items()}

        return run

    def score(params, views):
        return finished(*model.apply({"params": params}, inputs(views), method=model.stages[-1]))

    def at_once(params, views):
        mos, out = model.apply({"params": params}, *inputs(views).values(), per_tile=True)
        named = {_NAMED: jax.nn.sigmoid(out["degradation_logits"][: len(views["valid"])])} if naming else {}
        return {**finished(mos, out), **named}

    def name(params, views):
        if _NAMED in views:
            named = views[_NAMED]
        elif hasattr(model, "read_names"):
            # The image itself, not its mirror image.
            named = model.apply({"params": params}, inputs(views), method="read_names")[: len(views["valid"])]
        else:
            named = seen(params, views["read_vector"][:, 0])[0]
        return {PREDICTIONS: jnp.concatenate([views[PREDICTIONS], named], axis=1)}

    def finished(mos, out):
        found = jnp.concatenate([mos[:, None], out["per_tile_mos"]], axis=1)
        if mirror:
            once, again = jnp.split(found, 2)
            found = jnp.concatenate([(once[:, :1] + again[:, :1]) / 2, once[:, 1:], again[:, 1:]], axis=1)
        return {PREDICTIONS: found}

    last = (_stage(name, cpu),) if naming else ()
    if not hasattr(model, "stages"):
        return (_stage(at_once, cpu), *last)
    from driqa_jax.models.vit import ViT

    # The options for convolutions make a ViT 1.6 times slower.
    convolutional = not isinstance(model.quality_encoder.backbone, ViT)
    options = {QUALITY: _CPU_CONVOLUTIONS} if convolutional else {}
    parts = (_stage(part(each), cpu, options.get(each, _CPU)) for each in model.stages[:-1])
    return *parts, _stage(score, cpu), *last


def seen(params: Any, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What images show of each type to `E_d`, from the degradation vectors (B, K, C) of K tiles: probability and
    severity, both (B, T) in [0, 1]."""
    from driqa_jax.models.layers import Dense

    heads = params["degradation_encoder"]
    logits, severity = (
        Dense(heads[name]["bias"].shape[0]).apply({"params": heads[name]}, vector) for name in ("logits", "severity")
    )
    return jax.nn.sigmoid(logits.mean(axis=1)), jax.nn.sigmoid(severity).mean(axis=1)


def _stage(function, cpu, options=_CPU):
    return Stage(_row_by_row(function), options) if cpu else Stage(function, {})


def _row_by_row(function):
    def mapped(params, views):
        if views["valid"].shape[0] == 1:
            return function(params, views)

        def one(view):
            arrays = function(params, {key: value[None] for key, value in view.items()})
            return {key: value[0] for key, value in arrays.items()}

        return jax.lax.map(one, views)

    return mapped
