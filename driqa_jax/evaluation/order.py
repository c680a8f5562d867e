"""Does a score fall as degradation grows, and stay stable under changes that keep quality?

Degraded images are a function of named keys, so the same photographs and seed give the same images. All levels of one
type share a key: noise, angles and positions are equal, only the severity differs.
"""

import dataclasses
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from driqa_jax import degradations
from driqa_jax.degradations import DEGRADATIONS
from driqa_jax.degradations.recipes import BADLY_RESTORED, KADID
from driqa_jax.degradations.registry import find
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.examination import single_steps
from driqa_jax.evaluation.figures import INK, LINE, blank_figure, draw_bar
from driqa_jax.io import image_bytes
from driqa_jax.progress import ProgressFn, silent

ORDERED: tuple[str, ...] = tuple(entry.name for entry in DEGRADATIONS if entry.ordered and entry.name in KADID)
LEVELS = 5
SEVERITIES = (0.25, 0.5, 0.75, 1.0)  # of bad restorations
SHIFT, JPEG_QUALITY, SCALE = 8, 95, 0.9  # px, Pillow's quality, factor of each side
CHANGES = ("flip", f"shift of {SHIFT} px", f"JPEG {JPEG_QUALITY}", f"resize to {SCALE}")
ALL = "all"
HEADS = ("examination", "of", "figure")


class OrderScores(NamedTuple):
    """Scores in [0, 100] of P photographs and of images made from them."""

    photos: tuple[str, ...]
    pristine: np.ndarray  # (P,)
    levels: np.ndarray  # (types, 5, P), types as in `ORDERED`, mildest level first
    restored: np.ndarray  # (types, severities, P), as in `BADLY_RESTORED` and `SEVERITIES`
    changes: np.ndarray  # (kinds, P), as in `CHANGES`, score of the changed image minus score of the original
    failed: dict[str, str]  # reasons by name of the photographs without scores


@dataclasses.dataclass(frozen=True)
class OrderEstimates:
    """Means over photographs with intervals."""

    order: dict[str, Estimate]  # share of adjacent levels in the right order, by type and for "all"
    restored: dict[str, Estimate]  # share of bad restorations that score below the pristine photograph, likewise
    stability: dict[str, Estimate]  # median absolute change of the score in points, by change

    @classmethod
    def of(cls, scores: OrderScores) -> Self:
        """The estimates from scores."""

        def by_type(names: Sequence[str], shares: np.ndarray) -> dict[str, Estimate]:
            rows = zip((ALL, *names), (shares.mean(axis=0), *shares), strict=True)
            return {name: estimate(row) for name, row in rows}

        order = by_type(ORDERED, right_pairs(scores.levels))
        restored = by_type(BADLY_RESTORED, right_against(scores.pristine, scores.restored))
        changes = zip(CHANGES, np.abs(scores.changes), strict=True)
        return cls(order, restored, {name: estimate(row, np.median) for name, row in changes})

    def rows(self) -> list[list[str | Estimate]]:
        """Table rows under `HEADS`."""
        parts = (("order", self.order), ("pristine over badly restored", self.restored), ("change", self.stability))
        return [[part, name, value] for part, values in parts for name, value in values.items()]


def examine_order(
    score: Callable[[Sequence[np.ndarray]], np.ndarray],
    photos: Mapping[str, np.ndarray],
    seed: int = 0,
    progress: ProgressFn = silent,
) -> OrderScores:
    """Score each photograph and the images made from it.

    score: from images, (H, W, 3) uint8, to scores (N,) in [0, 100], higher is better; a ValueError fails one
    photograph. photos: (S, S, 3) uint8 of one size, by name.
    """
    make = _maker(seed)
    rows, failed = {}, {}
    for done, (name, photo) in enumerate(photos.items()):
        try:
            rows[name] = np.asarray(score([*make(photo, done), *harmless(photo)]), np.float64)
        except ValueError as error:
            failed[name] = " ".join(str(error).split())
        progress("scoring photographs", done + 1, len(photos))
    scores = np.array(list(rows.values())).reshape(len(rows), -1).T
    ends = np.cumsum([1, len(ORDERED) * LEVELS, len(BADLY_RESTORED) * len(SEVERITIES)])
    pristine, levels, restored, changed = np.split(scores, ends)
    flipped, here, there, *others = changed
    return OrderScores(
        tuple(rows),
        pristine[0],
        levels.reshape(len(ORDERED), LEVELS, -1),
        restored.reshape(len(BADLY_RESTORED), len(SEVERITIES), -1),
        np.stack([flipped - pristine[0], there - here, *(other - pristine[0] for other in others)]),
        failed,
    )


def right_pairs(levels: np.ndarray) -> np.ndarray:
    """Share of adjacent levels (..., L, P) where the milder one scores higher: (..., P). Equal scores are wrong."""
    return (np.diff(levels, axis=-2) < 0).mean(axis=-2)


def right_against(pristine: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Share of severities (..., V, P) that score below the pristine (P,): (..., P)."""
    return (worse < pristine).mean(axis=-2)


def _maker(seed: int) -> Callable[[np.ndarray, int], Iterator[np.ndarray]]:
    """A function of a photograph and its number that yields the photograph, its levels, its bad restorations."""
    steps = [(name, severity) for name in ORDERED for severity in find(name).kadid_levels]
    steps += [(name, severity) for name in BADLY_RESTORED for severity in SEVERITIES]
    names = (*ORDERED, *BADLY_RESTORED)

    @jax.jit
    def degraded(key: jax.Array, photo: jax.Array, chain: degradations.Chain) -> jax.Array:
        image = degradations.apply_chains(key, photo[None], chain, jnp.zeros(1, jnp.int32), names=names)
        return jnp.rint(image[0, 0] * 255.0).astype(jnp.uint8)

    def make(photo: np.ndarray, number: int) -> Iterator[np.ndarray]:
        image = jnp.asarray(photo, jnp.float32) / 255.0
        yield photo
        for name, severity in steps:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), number)
            yield np.asarray(degraded(key, image, single_steps(name, [severity])))

    return make


def harmless(photo: np.ndarray) -> Iterator[np.ndarray]:
    """A photograph (H, W, 3) uint8 flipped, cropped at two positions 8 px apart, encoded as JPEG, slightly reduced."""
    yield np.ascontiguousarray(photo[:, ::-1])
    yield photo[:-SHIFT, :-SHIFT]
    yield photo[SHIFT:, SHIFT:]
    image = Image.fromarray(photo)
    yield np.asarray(Image.open(io.BytesIO(image_bytes(image, "JPEG", quality=JPEG_QUALITY))))
    size = tuple(round(SCALE * side) for side in image.size)
    yield np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def order_figure(estimates: OrderEstimates, title: str) -> Figure:
    """A bar with its interval for each type, best first; bad restorations below."""
    figure, axes = blank_figure(7, 7)
    row, labels = 0.0, {}
    for group, color in ((estimates.order, INK), (estimates.restored, LINE)):
        bars = sorted(((name, e) for name, e in group.items() if name != ALL), key=lambda bar: -(bar[1].value or 0))
        for name, each in bars:
            draw_bar(axes, row, each.value, each.interval, color)
            labels[row] = name.replace("_", " ")
            row += 1
        if group[ALL].value is not None:
            axes.plot([group[ALL].value] * 2, [row - len(bars) - 0.5, row - 0.5], color="black", linestyle=":")
        row += 0.6
    axes.set_yticks(list(labels), labels.values())
    axes.invert_yaxis()
    axes.axvline(0.5, color="gray", linewidth=0.8)
    axes.set(xlim=(0, 1.01))
    figure.suptitle(title, fontsize="medium")  # over the figure: type names make the axes narrow
    caption = "share ranked right, dotted: mean\nblue: adjacent levels; red: pristine against badly restored"
    figure.supxlabel(caption, fontsize="medium")
    return figure
