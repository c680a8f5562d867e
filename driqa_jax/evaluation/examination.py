"""What a degradation encoder and its restorer can do, examined on photographs that nobody trained on.

Everything is drawn from named keys: the same model, photographs and seed give the same numbers.
"""

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

PLAIN_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of types that KADID-10k does not have
STRONG = 0.5  # the least severity at which a type must be named
DRAWS = 4  # severities drawn for each type when it is to be named
DRAW, SHUFFLE = 2**20, 2**20 + 1  # streams of a type's key beside those of its pictures

# KADID-10k's 25 types as 21 classes: a photograph alone does not tell whether it was brightened or taken so.
TONE, SATURATION = "tone", "saturation"
CLASS_OF = {
    **{name: name for name in KADID},
    **dict.fromkeys(("brighten", "darken", "mean_shift", "contrast_change"), TONE),
    **dict.fromkeys(("color_saturation_1", "color_saturation_2"), SATURATION),
}


def classes(names: Sequence[str]) -> tuple[str, ...]:
    """The classes that a model with these types can be asked for, in KADID-10k's order."""
    return tuple(dict.fromkeys(CLASS_OF[name] for name in KADID if name in names))


class Naming(NamedTuple):
    """How degradations are named.

    confusion: (C, C) counts, rows the true class, columns the most probable one, whatever its probability. unsure: (C,)
      shares of the rows where no type of the whole bank passes a probability of one half. top1, top3: macro averages
      over the classes. severity_error: mean absolute error of the true type's severity. clean: the share of clean
      photographs that are called clean.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    unsure: np.ndarray
    top1: float
    top3: float
    severity_error: float
    clean: float


class Restoration(NamedTuple):
    """What restoring gains; arrays (types, 5 levels, photographs), in dB or in SSIM.

    shuffled: PSNR when R reads the vector of another picture of the same type, of any level.
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
    """Compiles once what the examinations share.

    Args:
      model: with the methods `encode_degradation` and `restore` of `DRIQA`.
      params: its parameters; those of `E_d` and `R` are read.
      names: of the degradations that the model's head knows, in its order.
      photos: (P, S, S, 3) uint8, pristine, S divisible by 32.
      seed: of everything drawn.

    Raises:
      ValueError: no photograph, or another shape.
    """

    def __init__(self, model, params: dict, names: Sequence[str], photos: np.ndarray, seed: int = 0):
        if photos.ndim != 4 or photos.shape[0] < 2 or photos.shape[-1] != 3:
            raise ValueError(f"photos must be (P, S, S, 3) with P of at least 2; got {photos.shape}")
        self.names = tuple(names)
        self._photos = jnp.asarray(photos, jnp.float32) / 255.0
        self._key = jax.random.key(seed)
        ids = jnp.arange(photos.shape[0])
        variables = {"params": {name: params[name] for name in ("degradation_encoder", "restoration")}}

        # One chain a call, so that the bank is compiled once.
        self._degraded = jax.jit(lambda key, chain: degradations.apply_chains(key, self._photos, chain, ids)[0])
        self._seen = jax.jit(lambda images: model.apply(variables, images, method="encode_degradation"))
        self._restored = jax.jit(lambda images, d: model.apply(variables, images, d, method="restore"))
        self._psnr, self._ssim = (jax.jit(lambda x, f=f: f(x, self._photos)) for f in (psnr, ssim))

    def _pictures(self, key: jax.Array, chains: Chain) -> list[jax.Array]:
        """All photographs under each chain."""
        return [
            self._degraded(jax.random.fold_in(key, i), jax.tree.map(lambda x, i=i: x[i : i + 1], chains))
            for i in range(chains.types.shape[0])
        ]

    def _draw(self, name: str) -> jax.Array:
        return jax.random.fold_in(self._key, zlib.crc32(name.encode()))

    def drawn(self, name: str, count: int = DRAWS) -> tuple[np.ndarray, list[jax.Array]]:
        """One type at severities drawn from [.5, 1], (count,), and all photographs at each, (P, S, S, 3) in [0, 1]."""
        key = self._draw(name)
        severities = jax.random.uniform(jax.random.fold_in(key, DRAW), (count,), minval=STRONG)
        return np.asarray(severities), self._pictures(key, _single(name, severities))

    def naming(self, progress=lambda done, count: None) -> Naming:
        """Name KADID-10k's types, each alone at severities drawn from [.5, 1], and clean photographs.

        progress: told (types done, types in all).
        """
        asked = [name for name in KADID if name in self.names]
        groups = classes(self.names)
        member = np.array([[CLASS_OF.get(name) == group for name in self.names] for group in groups])
        confusion = np.zeros((len(groups), len(groups)), np.int64)
        hits, unsure, errors = [[] for _ in groups], [[] for _ in groups], []
        for done, name in enumerate(asked):
            drawn, degraded = self.drawn(name)
            seen = [self._seen(pictures) for pictures in degraded]
            logits = np.stack([np.asarray(one.logits) for one in seen])
            by_class = np.where(member[:, None, None], logits[None], -np.inf).max(axis=-1)
            own = groups.index(CLASS_OF[name])
            ranks = (by_class > by_class[own]).sum(axis=0)
            np.add.at(confusion[own], by_class.argmax(axis=0).ravel(), 1)
            unsure[own].append((logits.max(axis=-1) < 0.0).mean())
            hits[own].append(np.stack([ranks < 1, ranks < 3]).reshape(2, -1))
            graded = np.stack([np.asarray(one.severity) for one in seen])[..., self.names.index(name)]
            errors.append(np.abs(graded - drawn[:, None]).mean())
            progress(done + 1, len(asked))
        found = np.array([np.concatenate(parts, axis=1).mean(axis=1) for parts in hits])
        quiet = np.asarray(self._seen(self._photos).logits).max(axis=-1) < 0.0
        return Naming(
            groups,
            confusion,
            np.array([np.mean(x) for x in unsure]),
            *found.mean(axis=0).tolist(),
            float(np.mean(errors)),
            float(quiet.mean()),
        )

    def restoration(self, progress=lambda done, count: None, names: Sequence[str] = degradations.NAMES) -> Restoration:
        """Restore types, all of this version's bank, at five levels (KADID-10k's where it has the type)."""
        levels = np.array([find(name).kadid_levels or PLAIN_LEVELS for name in names])
        rows = []
        for name, severities in zip(names, levels, strict=True):
            key = self._draw(name)
            pictures = self._pictures(key, _single(name, severities))
            vectors = [self._seen(images).vector for images in pictures]
            shuffled = jax.random.permutation(jax.random.fold_in(key, SHUFFLE), jnp.concatenate(vectors))
            after, other = (
                [self._restored(images, d) for images, d in zip(pictures, many, strict=True)]
                for many in (vectors, shuffled.reshape(len(pictures), *vectors[0].shape))
            )
            measured = (
                *((self._psnr, each) for each in (pictures, after, other)),
                *((self._ssim, each) for each in (pictures, after)),
            )
            rows.append([np.stack([np.asarray(measure(images)) for images in each]) for measure, each in measured])
            progress(len(rows), len(levels))
        measures = (np.stack(column) for column in zip(*rows, strict=True))
        untouched = self._restored(self._photos, self._seen(self._photos).vector)
        return Restoration(tuple(names), levels, *measures, np.asarray(self._psnr(untouched)))

    def restore(self, picture: np.ndarray) -> tuple[np.ndarray, str]:
        """One picture restored, and its most probable degradation.

        picture: uint8 (H, W, 3), sides divisible by 32. Returns float32 (H, W, 3), not clipped, and the name.
        """
        images = jnp.asarray(picture[None], jnp.float32) / 255.0
        seen = self._seen(images)
        return np.asarray(self._restored(images, seen.vector))[0], self.names[int(np.asarray(seen.logits[0]).argmax())]

    def retrieval(self, recipe, chains: int = 16, batches: int = 4) -> float:
        """The share of pictures whose nearest other photograph, by the contrast's projection, has the same chain.

        Batches of all photographs under `chains` chains, drawn from the Recipe or Mixture; by chance 1 / chains.
        """
        hits, count = [], self._photos.shape[0]
        for batch in range(batches):
            key = jax.random.fold_in(self._draw("retrieval"), batch)
            drawn = degradations.sample_chains(jax.random.fold_in(key, DRAW), recipe, chains)
            z = np.concatenate([np.asarray(self._seen(x).projection) for x in self._pictures(key, drawn)])
            z = z / np.linalg.norm(z, axis=1, keepdims=True)
            # Chains that came out clean are one chain.
            clean = (np.asarray(drawn.types) == degradations.CLEAN).all(axis=1)
            chain = np.repeat(np.where(clean, -1, np.arange(chains)), count)
            photo = np.tile(np.arange(count), chains)
            similarity = np.where(photo[:, None] == photo[None, :], -np.inf, z @ z.T)
            hits.append((chain[similarity.argmax(axis=1)] == chain).mean())
        return float(np.mean(hits))


def _single(name: str, severities) -> Chain:
    """One chain a severity, each a single step of this type."""
    severities = jnp.asarray(severities, jnp.float32)[:, None]
    return Chain(jnp.full(severities.shape, degradations.NAMES.index(name), jnp.int32), severities)
