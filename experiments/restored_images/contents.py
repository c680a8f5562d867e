"""Restored versions of one photograph, with full-reference metrics and no-reference scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax import degradations
from driqa_jax.degradations import Chain
from driqa_jax.evaluation.full_reference import psnr, ssim
from experiments.restored_images.gmsd import gmsd
from experiments.restored_images.restorers import Restorer, apply

NONE = "none"
# By name the function, and 1 if higher is better or -1 if lower is better.
METRICS: Mapping[str, tuple[Callable, int]] = {"psnr": (psnr, 1), "ssim": (ssim, 1), "gmsd": (gmsd, -1)}
Score = Callable[[Sequence[np.ndarray]], np.ndarray]


class Variant(NamedTuple):
    """One image of a content: its degradation and restoration ("" and 0: not restored)."""

    degradation: str
    restorer: str
    strength: float


class Contents:
    """The images of contents; compiled once for photographs of one size.

    degraded: names and severities. restorers, strengths: by name. scores: by model, from uint8 images to (N,).
    """

    def __init__(
        self,
        degraded: Sequence[tuple[str, float]],
        restorers: Mapping[str, Restorer],
        strengths: Mapping[str, Sequence[float]],
        scores: Mapping[str, Score],
        seed: int,
    ):
        self._degraded, self._restorers, self._strengths = degraded, restorers, strengths
        self._scores, self._key = scores, jax.random.key(seed)
        drawn = tuple(name for name, _ in degraded if name != NONE)

        @jax.jit
        def degrade(key, photo, chain):
            image = degradations.apply_chains(key, photo[None], chain, jnp.zeros(1, jnp.int32), names=drawn)
            return jnp.rint(image[0, 0] * 255.0).astype(jnp.uint8)

        @jax.jit
        def measure(image, reference):
            x, y = (z.astype(jnp.float32) / 255.0 for z in (image, reference))
            return jnp.stack([metric(x, y) for metric, _ in METRICS.values()])

        self._degrade, self._measure = degrade, measure

    def images(self, photo: np.ndarray, number: int) -> Iterator[tuple[Variant, np.ndarray]]:
        """All images of one photograph, (S, S, 3) uint8; `number` seeds its noise."""
        for name, severity in self._degraded:
            degraded = self._degraded_photo(photo, number, name, severity)
            yield Variant(name, "", 0.0), degraded
            for restorer, run in self._restorers.items():
                for strength in self._strengths[restorer]:
                    yield Variant(name, restorer, strength), apply(run, degraded, strength)

    def image(self, photo: np.ndarray, number: int, variant: Variant) -> np.ndarray:
        """The image of one variant."""
        degraded = self._degraded_photo(photo, number, variant.degradation, dict(self._degraded)[variant.degradation])
        return apply(self._restorers[variant.restorer], degraded, variant.strength) if variant.restorer else degraded

    def rows(self, photo: np.ndarray, number: int) -> list[dict[str, Any]]:
        """One row per image: variant, metrics, scores by model. Raises ValueError if a score fails."""
        variants, images = zip(*self.images(photo, number), strict=True)
        scores = {model: np.asarray(score(list(images)), np.float64) for model, score in self._scores.items()}
        rows = []
        for i, (variant, image) in enumerate(zip(variants, images, strict=True)):
            measured = zip(METRICS, np.asarray(self._measure(image, photo)).tolist(), strict=True)
            by_model = {model: float(values[i]) for model, values in scores.items()}
            rows.append({**variant._asdict(), "metrics": dict(measured), "scores": by_model})
        return rows

    def _degraded_photo(self, photo, number, name, severity) -> np.ndarray:
        if name == NONE:
            return photo
        chain = Chain(jnp.array([[degradations.NAMES.index(name)]], jnp.int32), jnp.array([[severity]], jnp.float32))
        return np.asarray(self._degrade(jax.random.fold_in(self._key, number), photo.astype(np.float32) / 255.0, chain))
