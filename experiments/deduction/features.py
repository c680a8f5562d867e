"""What `DeductionHead` learns from, as frozen encoders see it, kept on disk so that a stopped computation resumes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.inference.program import make_stages
from driqa_jax.models.deduction import DeductionModel, Places
from driqa_jax.models.degradation_encoder import Early
from driqa_jax.models.layers import grid_coordinates
from driqa_jax.progress import ProgressFn, silent
from experiments.deduction.examples import Example

# The short side of a 512x384 photograph at its own size; tiles half as costly as those of 224 pixels.
RULE = ViewRule(short=384, long=608, tile=160, canvases=((384, 384), (384, 608), (608, 384)), enlarging="hamming")
CHUNK = 50
CELLS = 96  # drawn of each example's 144 to 228
SEEN = ("moments", "cells", "vector")  # what the head reads: (F,), (h, w, F'') and (K, C)
TILES = tuple(f"tile_{name}" for name in Early._fields)  # what the late layers of `E_d` read, (K, ...)
# The arrays of an image, each with the encoder that gives it.
ARRAYS = {
    **dict.fromkeys(("moments", "cells"), "quality_encoder"),
    **dict.fromkeys(("vector", *TILES), "degradation_encoder"),
}


class Named(NamedTuple):
    """Images by name: `image` gives the pixels, (H, W, 3) uint8, and `encoded` the bytes that say what they are of.

    `kind`: the name under which features of these images are kept.
    """

    kind: str
    names: Sequence[str]
    image: Callable[[str], np.ndarray]
    encoded: Callable[[str], bytes]


class Encoders:
    """The frozen encoders of a model: images, (H, W, 3) uint8, to the arrays of `ARRAYS`.

    They run as the scorer runs them. Images are not batched, which is no faster on a CPU, but seen in parallel.
    `params`: those of both encoders. `rule`: of the views. `folder`: where features are kept, by name; None: nowhere.
    """

    def __init__(self, model: DeductionModel, params: dict, rule: ViewRule, folder: str | os.PathLike | None = None):
        self._params, self._rule, self.folder = params, rule, folder
        stages = dict(zip(model.stages, make_stages(model, False, jax.default_backend() == "cpu"), strict=True))

        def read_quality(params, views):
            # A stage gives rows of images and of their mirror images, here one of each.
            arrays = stages["read_quality"].function(params, views)
            return {name.removeprefix("read_"): array[0, 0] for name, array in arrays.items()}

        def both_parts(encoder, tiles):
            early = encoder.early(tiles)
            return {**dict(zip(TILES, early, strict=True)), "vector": encoder.late(early)[1]}

        def read_degradation(params, views):
            tiles, params = views["tiles"][0].astype(jnp.float32) / 255.0, {"params": params["degradation_encoder"]}
            return model.degradation_encoder.apply(params, tiles, method=both_parts)

        def compiled(read, stage):
            return jax.jit(read, compiler_options=dict(stages[stage].options))

        self._run = {
            "quality_encoder": compiled(read_quality, "read_quality"),
            "degradation_encoder": compiled(read_degradation, "read_degradation"),
        }

    def __call__(self, image: np.ndarray | Image.Image, names: Sequence[str] = SEEN) -> dict[str, np.ndarray]:
        """The named arrays of `ARRAYS` of one image, float16, and its "boxes" (K, 4).

        Only the encoders that give them run. An encoder without statistics has no "tile_statistics".
        """
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
        # The canvas is the image's own size: padding would cost time and change nothing.
        view = make_view(image, self._rule, self._rule.size_in(height, width))
        batch = {key: array[None] for key, array in view.items()}
        found: dict[str, jax.Array | None] = {}
        for encoder in dict.fromkeys(ARRAYS[name] for name in names):
            found |= self._run[encoder](self._params, batch)
        arrays = {name: np.asarray(found[name], np.float16) for name in names if found[name] is not None}
        return {**arrays, "boxes": view["tile_boxes"]}

    def moments(self, images: Named, progress: ProgressFn = silent) -> np.ndarray:
        """The moments (N, F) of images."""

        def arrays(name):
            return {"moments": self(images.image(name), ["moments"])["moments"]}

        store = self._kept(images.kind, images.names, arrays, images.encoded, ["quality_encoder"], progress)
        return store.read(list(images.names))["moments"]

    def examples(
        self, kind: str, count: int, make: Callable[[int], Example], said: bytes, progress: ProgressFn = silent
    ) -> FeatureStore:
        """Examples "0" to `count`: all of `ARRAYS`, but of the "cells" `CELLS` random ones (CELLS, F'').

        Also `near` (CELLS, K) and `central` (CELLS,), see `Places`; `area` (CELLS,), the share of the fault in each
        cell; `base`, `type`, `drop` and `photo`. `said`: bytes that say what the examples are made from.
        """

        def arrays(name):
            example = make(int(name))
            found = self(example.image, tuple(ARRAYS))
            return {**_drawn(found, example, int(name)), **_labels(example)}

        used = ["quality_encoder", "degradation_encoder"]
        return self._kept(kind, [str(number) for number in range(count)], arrays, lambda _: said, used, progress)

    def _kept(self, kind, names, arrays, encoded, encoders, progress):
        used = {encoder: self._params[encoder] for encoder in encoders}
        key = {"format": 7, "view": self._rule.to_dict(), "params": params_sha256(used)}
        store = FeatureStore(self.folder, kind, key)
        return keep(store, names, arrays, encoded, f"features of {kind} images", progress)


def keep(
    store: FeatureStore,
    names: Sequence[str],
    arrays: Callable[[str], dict[str, np.ndarray]],
    encoded: Callable[[str], bytes],
    what: str,
    progress: ProgressFn = silent,
) -> FeatureStore:
    """The store with the `arrays` of named images; those that it lacks are computed in threads and added.

    `encoded`: bytes that say what an image was made from. `what`: for `progress`.
    """
    missing = [name for name in names if name not in store or not store.is_of(name, encoded(name))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            seen = list(pool.map(arrays, part))
            stacked = {key: np.stack([each[key] for each in seen]) for key in seen[0]}
            store.add(part, [encoded(name) for name in part], stacked)
            progress(what, min(start + CHUNK, len(missing)), len(missing))
    return store


def _labels(example: Example) -> dict[str, np.ndarray]:
    values = {"base": example.base, "type": example.type, "drop": example.drop, "photo": example.photo}
    return {name: np.float32(value) for name, value in values.items()}


def _drawn(found: dict[str, np.ndarray], example: Example, number: int) -> dict[str, np.ndarray]:
    """What was found, with `CELLS` random cells, their nearness to the tiles and their share of the fault."""
    rows, columns = found["cells"].shape[:2]
    rng = np.random.default_rng([number, zlib.crc32(example.kind.encode())])
    chosen = rng.permutation(rows * columns)[np.arange(CELLS) % (rows * columns)]
    places = grid_coordinates(np.array([[0.0, 0.0, 1.0, 1.0]], np.float32), rows, columns)
    places = Places.of(places, found["boxes"][None], np.ones((1, rows * columns), bool))
    area = np.full((rows, columns), float(example.type >= 0), np.float32)
    if example.area is not None:
        area = np.asarray(Image.fromarray(example.area).resize((columns, rows), Image.Resampling.BOX))
    return {
        **{name: array for name, array in found.items() if name != "boxes"},
        "cells": found["cells"].reshape(rows * columns, -1)[chosen],
        "near": np.asarray(places.near[0], np.float16)[chosen],
        "central": np.asarray(places.central[0], np.float16)[chosen],
        "area": area.ravel()[chosen].astype(np.float16),
    }
