"""What `DeductionHead` learns from, as frozen encoders see it, kept on disk so that a stopped computation resumes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from PIL import Image

from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.inference.program import make_stages
from driqa_jax.models.deduction import DeductionModel
from driqa_jax.progress import ProgressFn, silent
from experiments.deduction.fit import Degraded
from experiments.deduction.human_scale import FIDELITY, LEVELS, MEANS, UNMATCHED, degraded, drop

# The short side of a 512x384 photograph at its own size; tiles half as costly as those of 224 pixels.
RULE = ViewRule(short=384, long=608, tile=160, canvases=((384, 384), (384, 608), (608, 384)))
RESIZED, ENCODED_AGAIN = 0.8, 0.7  # shares of ordinary images
SMALLEST, QUALITIES = 0.4, (80, 98)
CHUNK = 50
# The arrays of an image, (F,) and (K, C), each with the stage of the model and the encoder that give it.
ARRAYS = {"moments": ("read_quality", "quality_encoder"), "vector": ("read_degradation", "degradation_encoder")}


class Encoders:
    """The frozen encoders of a model: images, (H, W, 3) uint8, to the arrays of `ARRAYS`.

    They run as the scorer runs them. Images are not batched, which is no faster on a CPU, but seen in parallel.
    `params`: those of both encoders. `rule`: of the views. `folder`: where features are kept, by name; None: nowhere.
    """

    def __init__(self, model: DeductionModel, params: dict, rule: ViewRule, folder: str | os.PathLike | None = None):
        self._params, self._rule, self._folder = params, rule, folder
        stages = dict(zip(model.stages, make_stages(model, False, jax.default_backend() == "cpu"), strict=True))
        self._run = {
            name: jax.jit(stages[stage].function, compiler_options=dict(stages[stage].options))
            for name, (stage, _) in ARRAYS.items()
        }

    def __call__(self, image: np.ndarray | Image.Image, names: Sequence[str] = tuple(ARRAYS)) -> dict[str, np.ndarray]:
        """The named arrays of one image, float16. Only the encoders that give them run."""
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
        # The canvas is the image's own size: padding would cost time and change nothing.
        view = make_view(image, self._rule, self._rule.size_in(height, width))
        batch = {key: array[None] for key, array in view.items()}
        found = {}
        for name in names:
            # A stage gives rows of images and of their mirror images, here one of each.
            (array,) = self._run[name](self._params, batch).values()
            found[name] = np.asarray(array[0, 0], np.float16)
        return found

    def kept(
        self,
        kind: str,
        groups: Mapping[str, Callable[[], Sequence[np.ndarray]]],
        encoded: Callable[[str], bytes],
        names: Sequence[str] = tuple(ARRAYS),
        progress: ProgressFn = silent,
    ) -> dict[str, np.ndarray]:
        """The named arrays of groups of G images each, (N, G, ...); computed only where none are kept.

        `groups`: makes a group's images, by name. `encoded`: bytes that say what a group was made from.
        """
        used = {encoder: self._params[encoder] for encoder in (ARRAYS[name][1] for name in names)}
        key = {"format": 2, "view": self._rule.to_dict(), "arrays": list(names), "params": params_sha256(used)}
        store = FeatureStore(self._folder, kind, key)
        missing = [name for name in groups if name not in store]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(missing), CHUNK):
                part = missing[start : start + CHUNK]
                seen = list(pool.map(lambda name: [self(image, names) for image in groups[name]()], part))
                arrays = {key: np.stack([np.stack([each[key] for each in group]) for group in seen]) for key in names}
                store.add(part, [encoded(name) for name in part], arrays)
                progress(f"features of {kind} images", min(start + CHUNK, len(missing)), len(missing))
        return store.read(list(groups))


def learned_cells(seed: int) -> list[tuple[str, int]]:
    """One random level of every type, for one photograph."""
    levels = np.random.default_rng(seed).integers(0, LEVELS, len(MEANS))
    return list(zip(MEANS, levels.tolist(), strict=True))


def copies(photo: np.ndarray, name: str, cells: Sequence[tuple[str, int]], seed: int = 0) -> Iterator[np.ndarray]:
    """The photograph, (H, W, 3) uint8, then its degraded copies."""
    yield photo
    yield from degraded(photo, name, seed, cells)


def as_degraded(moments: np.ndarray, vectors: np.ndarray, cells: Sequence, fidelity_weight: float = 0.5) -> Degraded:
    """Groups of `copies`, (P, 1 + G, ...), and the `cells` of each photograph as training data."""
    names = list(MEANS)
    types = np.array([[-1, *(names.index(name) for name, _ in own)] for own in cells])
    drops = np.array([[0.0, *(drop(*cell) for cell in own)] for own in cells], np.float32)
    per_type = np.array([_weight(name, fidelity_weight) for name in names], np.float32)
    weights = np.where(types < 0, 1.0, per_type[types]).astype(np.float32)
    photos, size = types.shape
    pristine = np.repeat(np.arange(photos) * size, size)
    flat = (x.reshape(photos * size, *x.shape[2:]) for x in (moments, vectors))
    return Degraded(*flat, pristine, types.ravel(), drops.ravel(), weights.ravel())


def ordinary(image: np.ndarray, seed: int) -> np.ndarray:
    """An image as cameras and pages deliver it: resized by .4 to 1 and encoded again as JPEG of quality 80 to 98."""
    rng, made = np.random.default_rng(seed), Image.fromarray(image)
    if rng.random() < RESIZED:
        scale = rng.uniform(SMALLEST, 1.0)
        filters = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX
        size = max(round(made.width * scale), 1), max(round(made.height * scale), 1)
        made = made.resize(size, filters[rng.integers(len(filters))])
    if rng.random() < ENCODED_AGAIN:
        file = io.BytesIO()
        made.save(file, "JPEG", quality=int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)))
        made = Image.open(file).convert("RGB")
    return np.asarray(made)


def _weight(name: str, fidelity: float) -> float:
    return 0.0 if name in UNMATCHED else fidelity if name in FIDELITY else 1.0
