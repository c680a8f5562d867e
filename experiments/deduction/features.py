"""What `DeductionHead` learns from, as frozen encoders see it, kept on disk so that a stopped computation resumes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from driqa_jax.checkpoints.load import LoadedModel
from driqa_jax.checkpoints.weights import params_sha256
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.models.pretrained import imagenet_weights
from driqa_jax.progress import ProgressFn, silent
from experiments.deduction.fit import Degraded
from experiments.deduction.human_scale import FIDELITY, LEVELS, MEANS, UNMATCHED, degraded, drop

# The short side of a 512x384 photograph at its own size; tiles half as costly as those of 224 pixels.
RULE = ViewRule(short=384, long=608, tile=160, canvases=((608, 608),))
RESIZED, ENCODED_AGAIN = 0.8, 0.7  # shares of ordinary images
SMALLEST, QUALITIES = 0.4, (80, 98)
CHUNK = 50


class Encoders:
    """ImageNet's backbone and a model's `E_d`: images, (H, W, 3) uint8, to `moments` and `vectors`.

    `folder`: where features are kept, by name; None: nowhere.
    """

    def __init__(self, loaded: LoadedModel, model, folder: str | os.PathLike | None = None, rule: ViewRule = RULE):
        backbone = {"quality_encoder": {"backbone": imagenet_weights()[0]}}
        self._params = {**backbone, "degradation_encoder": loaded.params["degradation_encoder"]}
        self._rule, self._folder = rule, folder
        self._key = {"format": 1, "view": rule.to_dict(), "params": params_sha256(self._params)}

        @jax.jit
        def see(params, whole, valid, tiles):
            moments, _ = model.apply({"params": params}, whole / 255.0, valid, method="look_at_quality")
            seen = model.apply({"params": params}, tiles / 255.0, method="encode_degradation")
            return moments[0].astype(jnp.float16), seen.vector.astype(jnp.float16)

        self._see = see

    def __call__(self, image: np.ndarray | Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """`moments` (F,) and `vectors` (K, C) float16 of one image."""
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
        # The canvas is the image's own size: padding would cost time and change nothing.
        view = make_view(image, self._rule, self._rule.size_in(height, width))
        whole, tiles = (np.asarray(view[name], np.float32) for name in ("whole", "tiles"))
        return jax.device_get(self._see(self._params, whole[None], view["valid"][None], tiles))

    def kept(
        self,
        kind: str,
        groups: Mapping[str, Callable[[], Sequence[np.ndarray]]],
        encoded: Callable[[str], bytes],
        progress: ProgressFn = silent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features of groups of G images each: (N, G, F) and (N, G, K, C); computed only where none are kept.

        `groups`: makes a group's images, by name. `encoded`: bytes that say what a group was made from.
        """
        store = FeatureStore(self._folder, kind, self._key)
        missing = [name for name in groups if name not in store]
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            seen = [[self(image) for image in groups[name]()] for name in part]
            arrays = {
                key: np.stack([np.stack([each[i] for each in group]) for group in seen])
                for i, key in enumerate(("moments", "vectors"))
            }
            store.add(part, [encoded(name) for name in part], arrays)
            progress(f"features of {kind} images", min(start + CHUNK, len(missing)), len(missing))
        found = store.read(list(groups))
        return found["moments"], found["vectors"]


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
