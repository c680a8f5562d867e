"""Whether a score falls where a photograph is made worse, and holds still where it is not.

Pictures are made from named keys: the same photographs and seed give the same pictures. The levels of one type share
their key, so that a photograph has the same noise, angle or places at all of them.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from driqa_jax import degradations
from driqa_jax.degradations import DEGRADATIONS, Chain
from driqa_jax.degradations.recipes import BADLY_RESTORED, KADID
from driqa_jax.degradations.registry import find

ORDERED: tuple[str, ...] = tuple(entry.name for entry in DEGRADATIONS if entry.ordered and entry.name in KADID)
LEVELS = 5
SEVERITIES = (0.25, 0.5, 0.75, 1.0)  # of a bad restoration
SHIFT, JPEG_QUALITY, SCALE = 8, 95, 0.9  # px, of Pillow's scale, of each side
CHANGES = ("flip", f"shift of {SHIFT} px", f"JPEG {JPEG_QUALITY}", f"resize to {SCALE}")


class Order(NamedTuple):
    """Scores, 0 to 100, of P photographs and what was made of them.

    photos: their names. pristine: (P,). levels: (types, 5, P), of `ORDERED`, the mildest first. restored: (kinds,
    severities, P), of `BADLY_RESTORED` and `SEVERITIES`. changes: (kinds, P), score of the changed picture less that
    of the picture itself, of `CHANGES`. failed: why others could not be scored, by name.
    """

    photos: tuple[str, ...]
    pristine: np.ndarray
    levels: np.ndarray
    restored: np.ndarray
    changes: np.ndarray
    failed: dict[str, str]


def examine_order(
    score: Callable[[Sequence[np.ndarray]], np.ndarray],
    photos: Mapping[str, np.ndarray],
    seed: int = 0,
    progress=lambda done, count: None,
) -> Order:
    """Score each photograph and everything that is made of it.

    score: pictures, uint8 (H, W, 3), to scores (N,) from 0 to 100, higher is better; a ValueError loses one
    photograph. photos: uint8 (S, S, 3), all of one size, by name. progress: told (photographs done, in all).
    """
    make = _maker(seed)
    names, rows, failed = [], [], {}
    for done, (name, photo) in enumerate(photos.items()):
        try:
            rows.append(np.asarray(score([*make(photo, done), *_changed(photo)]), np.float64))
            names.append(name)
        except ValueError as error:
            failed[name] = " ".join(str(error).split())
        progress(done + 1, len(photos))
    scores = np.array(rows).reshape(len(names), -1).T
    graded, restored = len(ORDERED) * LEVELS, len(BADLY_RESTORED) * len(SEVERITIES)
    pristine, levels, worse, changed = np.split(scores, np.cumsum([1, graded, restored]))
    flipped, here, there, *others = changed
    changes = np.stack([flipped - pristine[0], there - here, *(other - pristine[0] for other in others)])
    return Order(
        tuple(names),
        pristine[0],
        levels.reshape(len(ORDERED), LEVELS, -1),
        worse.reshape(len(BADLY_RESTORED), len(SEVERITIES), -1),
        changes,
        failed,
    )


def right_pairs(levels: np.ndarray) -> np.ndarray:
    """Of adjacent levels (..., L, P), the share where the milder scores higher: (..., P). Equal scores are wrong."""
    return (np.diff(levels, axis=-2) < 0).mean(axis=-2)


def right_against(pristine: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Of severities (..., V, P), the share that scores lower than the pristine (P,): (..., P)."""
    return (worse < pristine).mean(axis=-2)


def _maker(seed: int):
    """A function of a photograph and its number: itself, its levels, its bad restorations."""
    steps = [(name, severity) for name in ORDERED for severity in find(name).kadid_levels]
    steps += [(name, severity) for name in BADLY_RESTORED for severity in SEVERITIES]
    drawn = (*ORDERED, *BADLY_RESTORED)

    @jax.jit
    def degraded(key, photo, chain):
        picture = degradations.apply_chains(key, photo[None], chain, jnp.zeros(1, jnp.int32), names=drawn)
        return jnp.rint(picture[0, 0] * 255.0).astype(jnp.uint8)

    def make(photo, number):
        image = jnp.asarray(photo, jnp.float32) / 255.0
        yield photo
        for name, severity in steps:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), number)
            place = degradations.NAMES.index(name)
            chain = Chain(jnp.array([[place]], jnp.int32), jnp.array([[severity]], jnp.float32))
            yield np.asarray(degraded(key, image, chain))

    return make


def _changed(photo: np.ndarray):
    """The photograph flipped, cut in two places 8 px apart, encoded again, and made a little smaller."""
    yield np.ascontiguousarray(photo[:, ::-1])
    yield photo[:-SHIFT, :-SHIFT]
    yield photo[SHIFT:, SHIFT:]
    image, file = Image.fromarray(photo), io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    yield np.asarray(Image.open(file))
    size = tuple(round(SCALE * side) for side in image.size)
    yield np.asarray(image.resize(size, Image.Resampling.LANCZOS))
