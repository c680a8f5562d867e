"""How well a degradation encoder names degradations and a restorer removes them, on photographs not used in training.

All randomness comes from named keys, so the same model, photographs and seed give the same numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax import degradations
from driqa_jax.degradations import Chain
from driqa_jax.degradations.recipes import KADID
from driqa_jax.degradations.registry import find
from driqa_jax.evaluation.full_reference import psnr, ssim
from driqa_jax.models.restoration import require_restorer
from driqa_jax.progress import ProgressFn, silent

PLAIN_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of types without KADID-10k levels
STRONG = 0.5  # the least severity for naming
DRAWS = 4  # severities per type for naming
DRAW, SHUFFLE = 2**20, 2**20 + 1  # streams of a type's key apart from those of its images

# KADID-10k's 25 types as 21 classes: without the reference a brightened photograph looks like a bright one.
TONE, SATURATION = "tone", "saturation"
CLASS_OF = {
    **{name: name for name in KADID},
    **dict.fromkeys(("brighten", "darken", "mean_shift", "contrast_change"), TONE),
    **dict.fromkeys(("color_saturation_1", "color_saturation_2"), SATURATION),
}


def classes(names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a model with these types, in KADID-10k's order."""
    return tuple(dict.fromkeys(CLASS_OF[name] for name in KADID if name in names))


class Naming(NamedTuple):
    """Accuracy of naming.

    confusion: (C, C) counts, rows the true class, columns the most probable one. unsure: (C,) shares of images where no
    type has a probability of at least one half. top1, top3: macro averages over classes. severity_error: mean absolute
    error for the true type. clean: share of clean photographs without a type of at least one half.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    unsure: np.ndarray
    top1: float
    top3: float
    severity_error: float
    clean: float


class Restoration(NamedTuple):
    """Quality before and after restoration; arrays (types, 5 levels, photographs), in dB or SSIM.

    psnr_shuffled: the restorer reads the vector of another image of the same type, at any level.
    """

    names: tuple[str, ...]
    levels: np.ndarray
    psnr_before: np.ndarray
    psnr_after: np.ndarray
    psnr_shuffled: np.ndarray
    ssim_before: np.ndarray
    ssim_after: np.ndarray
    psnr_clean: np.ndarray


class Examiner:
    """Runs the examinations; compiles shared programs once.

    Args:
      model: has the methods `encode_degradation` and `restore` of `DRIQA`.
      params: its parameters; only those of the degradation encoder and the restorer are used.
      names: degradations of the model's head, in its order.
      photos: (P, S, S, 3) uint8, pristine, P at least 2, S divisible by 32.

    Raises:
      ValueError: photos have another shape.
      UserError: the model has no restorer.
    """

    def __init__(self, model, params: dict, names: Sequence[str], photos: np.ndarray, seed: int = 0):
        if photos.ndim != 4 or photos.shape[0] < 2 or photos.shape[-1] != 3:
            raise ValueError(f"photos must be (P, S, S, 3) with P of at least 2; got {photos.shape}")
        require_restorer(params)
        self.names = tuple(names)
        self._photos = jnp.asarray(photos, jnp.float32) / 255.0
        self._key = jax.random.key(seed)
        ids = jnp.arange(photos.shape[0])
        variables = {"params": {name: params[name] for name in ("degradation_encoder", "restoration")}}

        # One chain per call: the degradations compile once.
        self._degrade = jax.jit(lambda key, chain: degradations.apply_chains(key, self._photos, chain, ids)[0])
        self._encode = jax.jit(lambda images: model.apply(variables, images, method="encode_degradation"))
        self._restore = jax.jit(lambda images, d: model.apply(variables, images, d, method="restore"))
        self._psnr, self._ssim = (jax.jit(lambda x, f=f: f(x, self._photos)) for f in (psnr, ssim))

    def _images(self, key: jax.Array, chains: Chain) -> list[jax.Array]:
        """All photographs under each chain, (P, S, S, 3) in [0, 1]."""
        return [
            self._degrade(jax.random.fold_in(key, i), jax.tree.map(lambda x, i=i: x[i : i + 1], chains))
            for i in range(chains.types.shape[0])
        ]

    def _key_of(self, name: str) -> jax.Array:
        return jax.random.fold_in(self._key, zlib.crc32(name.encode()))

    def drawn(self, name: str, count: int = DRAWS) -> tuple[np.ndarray, list[jax.Array]]:
        """Severities of one type drawn from [.5, 1], (count,), and all photographs at each, (P, S, S, 3) in [0, 1]."""
        key = self._key_of(name)
        severities = jax.random.uniform(jax.random.fold_in(key, DRAW), (count,), minval=STRONG)
        return np.asarray(severities), self._images(key, _single(name, severities))

    def naming(self, progress: ProgressFn = silent) -> Naming:
        """Name KADID-10k's types, each alone at severities drawn from [.5, 1], and clean photographs."""
        types = [name for name in KADID if name in self.names]
        groups = classes(self.names)
        member = np.array([[CLASS_OF.get(name) == group for name in self.names] for group in groups])
        confusion = np.zeros((len(groups), len(groups)), np.int64)
        hits, unsure, errors = [[] for _ in groups], [[] for _ in groups], []
        for done, name in enumerate(types):
            severities, degraded = self.drawn(name)
            outputs = [self._encode(images) for images in degraded]
            logits = np.stack([np.asarray(output.logits) for output in outputs])
            by_class = np.where(member[:, None, None], logits[None], -np.inf).max(axis=-1)
            own = groups.index(CLASS_OF[name])
            ranks = (by_class > by_class[own]).sum(axis=0)
            np.add.at(confusion[own], by_class.argmax(axis=0).ravel(), 1)
            unsure[own].append((logits.max(axis=-1) < 0.0).mean())
            hits[own].append(np.stack([ranks < 1, ranks < 3]).reshape(2, -1))
            predicted = np.stack([np.asarray(output.severity) for output in outputs])[..., self.names.index(name)]
            errors.append(np.abs(predicted - severities[:, None]).mean())
            progress("naming types", done + 1, len(types))
        rates = np.array([np.concatenate(parts, axis=1).mean(axis=1) for parts in hits])
        clean = np.asarray(self._encode(self._photos).logits).max(axis=-1) < 0.0
        return Naming(
            groups,
            confusion,
            np.array([np.mean(x) for x in unsure]),
            *rates.mean(axis=0).tolist(),
            float(np.mean(errors)),
            float(clean.mean()),
        )

    def restoration(self, progress: ProgressFn = silent, names: Sequence[str] = degradations.NAMES) -> Restoration:
        """Restore each type at five levels: KADID-10k's if it has the type, otherwise `PLAIN_LEVELS`."""
        levels = np.array([find(name).kadid_levels or PLAIN_LEVELS for name in names])
        rows = []
        for name, severities in zip(names, levels, strict=True):
            key = self._key_of(name)
            images = self._images(key, _single(name, severities))
            vectors = [self._encode(each).vector for each in images]
            shuffled = jax.random.permutation(jax.random.fold_in(key, SHUFFLE), jnp.concatenate(vectors))
            after, other = (
                [self._restore(each, d) for each, d in zip(images, many, strict=True)]
                for many in (vectors, shuffled.reshape(len(images), *vectors[0].shape))
            )
            measures = (
                *((self._psnr, results) for results in (images, after, other)),
                *((self._ssim, results) for results in (images, after)),
            )
            rows.append([np.stack([np.asarray(measure(x)) for x in results]) for measure, results in measures])
            progress("restoring types", len(rows), len(levels))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        untouched = self._restore(self._photos, self._encode(self._photos).vector)
        return Restoration(tuple(names), levels, *columns, np.asarray(self._psnr(untouched)))

    def restore(self, image: np.ndarray) -> tuple[np.ndarray, str]:
        """One image, (H, W, 3) uint8, sides divisible by 32: restored (H, W, 3) float32, not clipped; its top type."""
        images = jnp.asarray(image[None], jnp.float32) / 255.0
        output = self._encode(images)
        top = self.names[int(np.asarray(output.logits[0]).argmax())]
        return np.asarray(self._restore(images, output.vector))[0], top

    def retrieval(self, recipe, chains: int = 16, batches: int = 4) -> float:
        """Share of images whose nearest image of another photograph, by the contrastive projection, has the same chain.

        Each batch holds all photographs under `chains` chains of the Recipe or Mixture; chance level is 1 / chains.
        """
        hits, count = [], self._photos.shape[0]
        for batch in range(batches):
            key = jax.random.fold_in(self._key_of("retrieval"), batch)
            drawn = degradations.sample_chains(jax.random.fold_in(key, DRAW), recipe, chains)
            z = np.concatenate([np.asarray(self._encode(x).projection) for x in self._images(key, drawn)])
            z = z / np.linalg.norm(z, axis=1, keepdims=True)
            # All clean chains are the same chain.
            clean = (np.asarray(drawn.types) == degradations.CLEAN).all(axis=1)
            chain = np.repeat(np.where(clean, -1, np.arange(chains)), count)
            photo = np.tile(np.arange(count), chains)
            similarity = np.where(photo[:, None] == photo[None, :], -np.inf, z @ z.T)
            hits.append((chain[similarity.argmax(axis=1)] == chain).mean())
        return float(np.mean(hits))


def _single(name: str, severities) -> Chain:
    """One chain per severity, each with a single step of this type."""
    severities = jnp.asarray(severities, jnp.float32)[:, None]
    return Chain(jnp.full(severities.shape, degradations.NAMES.index(name), jnp.int32), severities)
