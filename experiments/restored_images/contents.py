"""What restorers make of one photograph, measured against it and scored without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax import degradations
from driqa_jax.degradations import Chain
from driqa_jax.evaluation.full_reference import gmsd, psnr, ssim
from experiments.restored_images.restorers import Restorer, apply

NONE = "none"
# By name what each gives, and whether higher is better (1) or lower (-1).
METRICS: Mapping[str, tuple[Callable, int]] = {"psnr": (psnr, 1), "ssim": (ssim, 1), "gmsd": (gmsd, -1)}
Score = Callable[[Sequence[np.ndarray]], np.ndarray]


class Variant(NamedTuple):
    """One picture of a content: how it was degraded, and restored ("" and 0: not at all)."""

    degradation: str
    restorer: str
    strength: float


class Contents:
    """Compiled once for photographs of one size.

    degraded: names and severities; restorers: by name, and strengths by name; scores: by model, uint8 pictures to (N,).
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
            picture = degradations.apply_chains(key, photo[None], chain, jnp.zeros(1, jnp.int32), names=drawn)
            return jnp.rint(picture[0, 0] * 255.0).astype(jnp.uint8)

        @jax.jit
        def measure(picture, reference):
            x, y = (z.astype(jnp.float32) / 255.0 for z in (picture, reference))
            return jnp.stack([metric(x, y) for metric, _ in METRICS.values()])

        self._degrade, self._measure = degrade, measure

    def pictures(self, photo: np.ndarray, number: int) -> Iterator[tuple[Variant, np.ndarray]]:
        """All pictures of one photograph, uint8 (S, S, 3); `number` draws its noise."""
        for name, severity in self._degraded:
            seen = self._seen(photo, number, name, severity)
            yield Variant(name, "", 0.0), seen
            for restorer, run in self._restorers.items():
                for strength in self._strengths[restorer]:
                    yield Variant(name, restorer, strength), apply(run, seen, strength)

    def picture(self, photo: np.ndarray, number: int, variant: Variant) -> np.ndarray:
        """One of them."""
        seen = self._seen(photo, number, variant.degradation, dict(self._degraded)[variant.degradation])
        return apply(self._restorers[variant.restorer], seen, variant.strength) if variant.restorer else seen

    def rows(self, photo: np.ndarray, number: int) -> list[dict[str, Any]]:
        """A row a picture: what it is, its metrics, its scores by model. Raises ValueError where a score fails."""
        variants, pictures = zip(*self.pictures(photo, number), strict=True)
        scores = {model: np.asarray(score(list(pictures)), np.float64) for model, score in self._scores.items()}
        rows = []
        for i, (variant, picture) in enumerate(zip(variants, pictures, strict=True)):
            measured = zip(METRICS, np.asarray(self._measure(picture, photo)).tolist(), strict=True)
            given = {model: float(found[i]) for model, found in scores.items()}
            rows.append({**variant._asdict(), "metrics": dict(measured), "scores": given})
        return rows

    def _seen(self, photo, number, name, severity):
        if name == NONE:
            return photo
        chain = Chain(jnp.array([[degradations.NAMES.index(name)]], jnp.int32), jnp.array([[severity]], jnp.float32))
        return np.asarray(self._degrade(jax.random.fold_in(self._key, number), photo.astype(np.float32) / 255.0, chain))
