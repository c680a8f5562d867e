"""Content shared by two data sets, or by two splits of one: found by perceptual hash, shown as pairs."""

import io
import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from driqa_jax.data import near_duplicates
from driqa_jax.data.decode import MAX_PIXELS, pillow_limit
from driqa_jax.data.source import Source, Subset
from driqa_jax.errors import DataError
from driqa_jax.io import to_csv
from driqa_jax.progress import ProgressFn, counter, silent

# One image under two names. Measured between test and train of BIQ2021: the 132 pairs above .99 differ by .02 in MOS,
# the 29 between .97 and .99 by .08 (next frames, exposures). No pair of web photographs lies between .9 and .99.
REPEAT = 0.99
_THUMBNAIL, _MARGIN, _TEXT = 180, 8, 12


class Leaks(NamedTuple):
    """Pairs of images of one scene, the most similar first.

    left, right: the compared sources. i, j: their rows, (P,). similarity: (P,) in [-1, 1].
    """

    left: Source
    right: Source
    i: np.ndarray
    j: np.ndarray
    similarity: np.ndarray

    def shared(self, subset: str | None = None) -> tuple[int, int, int]:
        """Counts of images of `left` (or one subset): all, with a near duplicate in `right`, with a repeat there."""
        rows = np.ones(len(self.left), bool) if subset is None else self.left.column("subset") == subset
        best = np.full(len(self.left), -np.inf)
        np.maximum.at(best, self.i, self.similarity)
        return int(rows.sum()), int((rows & np.isfinite(best)).sum()), int((rows & (best >= REPEAT)).sum())

    def mos_gap(self) -> float | None:
        """Mean absolute MOS difference within repeats; None without scored repeats."""
        rows = self.similarity >= REPEAT
        gaps = np.abs(self.left.column("mos")[self.i[rows]] - self.right.column("mos")[self.j[rows]])
        gaps = gaps[np.isfinite(gaps)]
        return float(gaps.mean()) if len(gaps) else None

    def to_csv(self) -> str:
        """All pairs: names, splits, MOS, similarity, and whether they are repeats."""
        sides = [f"{side}_{key}" for side in ("left", "right") for key in ("dataset", "split", "image", "mos")]
        keys = ("dataset", "split", "image_id", "mos")
        rows: list[list] = [[*sides, "similarity", "repeat"]]
        for i, j, similarity in zip(self.i, self.j, self.similarity, strict=True):
            cells = [source.column(key)[row] for source, row in ((self.left, i), (self.right, j)) for key in keys]
            rows.append([*cells, f"{similarity:.4f}", int(similarity >= REPEAT)])
        return to_csv(rows)


def describe(source: Source, progress: ProgressFn = silent) -> np.ndarray:
    """The descriptors of all images of a source, (N, 144). Raises DataError for an image that cannot be read."""
    ids = source.column("image_id")
    tell = counter(progress, f"looking at {source.name}", len(source))
    return near_duplicates.describe_all(
        range(len(source)), source.encoded, lambda row: (source.name, f"{ids[row]}:"), tell
    )


def leaks_between(
    left: Source, right: Source, threshold: float = near_duplicates.THRESHOLD, progress: ProgressFn = silent
) -> Leaks:
    """The scenes shared by two sources."""
    return Leaks(left, right, *near_duplicates.pairs(describe(left, progress), describe(right, progress), threshold))


def leaks_within(
    source: Source, threshold: float = near_duplicates.THRESHOLD, progress: ProgressFn = silent
) -> list[Leaks]:
    """The scenes shared by each pair of splits of a source, the smaller split on the left.

    Raises DataError if the source has only one split.
    """
    splits, counts = np.unique(source.column("split"), return_counts=True)
    names = [str(name) for name in splits[np.argsort(counts, kind="stable")] if name]
    if len(names) < 2:
        raise DataError(source.name, None, f"has only the split {names[0]!r}; name another set, or a split file")
    rows = describe(source, progress)
    where = {name: np.flatnonzero(source.column("split") == name) for name in names}
    leaks = []
    for left, right in itertools.combinations(names, 2):
        pairs = near_duplicates.pairs(rows[where[left]], rows[where[right]], threshold)
        parts = (Subset(source, where[name], f"{source.name}:{name}") for name in (left, right))
        leaks.append(Leaks(*parts, *pairs))
    return leaks


def contact_sheet(leaks: Leaks, most: int = 48, columns: int = 3) -> Image.Image:
    """An image of at most `most` pairs: each scene of `left` once, evenly from the most to the least similar.

    Below each pair are its names, its similarity and its MOS (0 to 1).
    """
    groups = leaks.left.column("group")[leaks.i]
    _, first = np.unique(groups, return_index=True)
    chosen = np.sort(first)
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int))]
    width, height = 2 * _THUMBNAIL + 3 * _MARGIN, _THUMBNAIL + 3 * _TEXT + 3 * _MARGIN
    sheet = Image.new("RGB", (columns * width, max(1, -(-len(chosen) // columns)) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for cell, pair in enumerate(chosen):
        x, y = cell % columns * width + _MARGIN, cell // columns * height + _MARGIN
        labels = []
        for side, (source, row) in enumerate(((leaks.left, int(leaks.i[pair])), (leaks.right, int(leaks.j[pair])))):
            sheet.paste(_thumbnail(source.encoded(row)), (x + side * (_THUMBNAIL + _MARGIN), y))
            split, image, mos = (source.column(key)[row] for key in ("split", "image_id", "mos"))
            labels.append((f"{split}: {image}  MOS {mos:.3f}"[-60:], "black"))
        repeat = ", a repeat" if leaks.similarity[pair] >= REPEAT else ""
        labels.append((f"similarity {leaks.similarity[pair]:.3f}{repeat}", "#a03020"))
        for line, (label, color) in enumerate(labels):
            draw.text((x, y + _THUMBNAIL + 2 + line * (_TEXT + 2)), label, fill=color, font=font)
    return sheet


def _thumbnail(encoded: bytes) -> Image.Image:
    with pillow_limit.set_to(MAX_PIXELS), Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
        return ImageOps.pad(ImageOps.exif_transpose(image).convert("RGB"), (_THUMBNAIL, _THUMBNAIL), color="#eeeeee")
