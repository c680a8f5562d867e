"""How much a score changes where people see nothing, and whether it orders pairs in which they see something.

    python -m benchmarks stability --pristine PHOTOS --large ORIGINALS --model lite -o stability.md

`--pristine` is a folder of photographs that no training has seen. They are reduced to 512x384 pixels or as many.
`--large` is a folder of photographs that keep their size, which the table states as a median; without it those of
`--pristine` do. What is below 12 megapixels is also enlarged to that. Each figure is the median (of changes, in points)
or the mean (of shares) over photographs, and its interval holds 95 % of resamples of photographs.
"""

from __future__ import annotations

import argparse
import functools
import math
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import driqa_jax
from benchmarks.photographs import SIZE, defocused, encoded, photographs, resized
from driqa_jax.data.decode import decode
from driqa_jax.degradations import apply
from driqa_jax.degradations.registry import find
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.order import CHANGES, harmless
from driqa_jax.evaluation.tables import Table, save_table, to_markdown
from driqa_jax.progress import Progress
from driqa_jax.reports.inputs import list_pictures
from experiments.deduction.human_scale import MEANS, UNMATCHED, examine_human_scale

CHANGE, ORDER, HUMAN = "median change, points", "right order", "right order by KADID-10k's people"
LARGE = 12e6  # pixels, as phones have them
SHORT_SIDES = 384, 512, 768, 1200  # of reduced photographs
STRONG = 0.5, 0.75, 1.0  # severities at which people see halos and blown highlights
APART = 0.3  # human means that differ by less are taken as equal
HUMAN_PHOTOS = 8  # of the photographs that are no squares, for the human means


class Pair(NamedTuple):
    """Two images (H, W, 3) uint8: people see no difference (measure `CHANGE`), or the `first` is better (`ORDER`)."""

    measure: str
    case: str
    first: np.ndarray
    second: np.ndarray


class Scored(NamedTuple):
    """The scores of a pair, in points, and the photograph that it was made from."""

    measure: str
    case: str
    photo: str
    first: float
    second: float


def main(argv: Sequence[str]) -> int:
    """Score the pairs and print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stability", description=__doc__.split("\n")[0])
    parser.add_argument("--pristine", required=True, help="folder of photographs that no training has seen")
    parser.add_argument("--large", help="folder of photographs that keep their size (default: those of --pristine)")
    parser.add_argument("--model", default="lite", help="bundled name or weights file")
    parser.add_argument("-o", "--output", help="also write the table: .md, .csv or .tex")
    args = parser.parse_args(argv)
    scorer = driqa_jax.load(args.model)
    photos, large = photographs(args.pristine), list(list_pictures([args.large or args.pristine]))
    megapixels = float(np.median([math.prod(decode(path).shape[:2]) / 1e6 for path in large]))
    made = [(name, lambda photo=photo, name=name: pairs(photo, name)) for name, photo in photos.items()]
    made += [(pathlib.Path(path).name, lambda path=path: sizes(decode(path), megapixels)) for path in large]
    scored = []
    with Progress() as progress:
        for done, (name, make) in enumerate(made, 1):
            of_photo = list(make())
            images = {id(image): image for pair in of_photo for image in (pair.first, pair.second)}
            points = dict(zip(images, scorer(list(images.values())), strict=True))
            scored += [Scored(p.measure, p.case, name, points[id(p.first)], points[id(p.second)]) for p in of_photo]
            progress("scoring pairs, by photograph", done, len(made))
        # The human means belong to images of this shape.
        named = [(name, photo) for name, photo in photos.items() if photo.size == 3 * math.prod(SIZE)]
        _, cells = examine_human_scale(scorer, dict(named[:HUMAN_PHOTOS]), progress=progress)
    heads = ("measure", "case", "photographs", args.model)
    table = Table(f"Stability and order, {args.model}", heads, [*rows(scored), *human_rows(cells)])
    print(to_markdown(table))
    if args.output:
        save_table(table, args.output)
    return 0


def rows(scored: Sequence[Scored]) -> list[list[str | int | Estimate]]:
    """The rows of the pairs: measure, case, number of photographs, figure. Pairs of one photograph are averaged."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for measure, case, photo, first, second in scored:
        value = abs(first - second) if measure == CHANGE else float(first > second)
        found.setdefault((measure, case), {}).setdefault(photo, []).append(value)
    return [
        _row(*key, [np.mean(values) for values in found[key].values()])
        for key in sorted(found, key=lambda key: (CHANGE, ORDER).index(key[0]))
    ]


def human_rows(cells: np.ndarray) -> list[list[str | int | Estimate]]:
    """The rows of the cells (P, 25, 5) of `examine_human_scale`: pairs of all types, and the worst type's levels."""
    used = [i for i, name in enumerate(MEANS) if name not in UNMATCHED]
    names, means = [list(MEANS)[i] for i in used], np.array(list(MEANS.values()))[used]
    cells = cells[:, used]
    by_type = {name: _shares(cells[:, i], means[i]) for i, name in enumerate(names)}
    lowest = min(by_type, key=lambda name: by_type[name].mean())
    return [
        _row(HUMAN, "all types", _shares(cells.reshape(len(cells), -1), means.ravel())),
        _row(HUMAN, f"levels of the lowest type, {lowest}", by_type[lowest]),
    ]


def _row(measure, case, values):
    return [measure, case, len(values), estimate(np.array(values), np.median if measure == CHANGE else np.mean)]


def _shares(scores: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The share (P,) of pairs whose means (N,) are `APART` that scores (P, N) order alike."""
    # Means have two decimals: 4.60 - 4.30 counts as .3.
    better, worse = np.nonzero(means[:, None] - means[None, :] >= APART - 1e-9)
    return (scores[:, better] > scores[:, worse]).mean(axis=1)


def pairs(photo: np.ndarray, name: str) -> Iterator[Pair]:
    """The pairs of a photograph (H, W, 3) uint8; equal photographs of equal names, equal pairs."""
    seed = np.uint32(zlib.crc32(name.encode()))  # too large for an int of JAX
    mirrored, here, there, *others = harmless(photo)
    twins = ((photo, mirrored), (here, there), *((photo, other) for other in others))
    for case, (first, second) in zip(CHANGES, twins, strict=True):
        yield Pair(CHANGE, case, first, second)
    bars = len(photo) // 8
    yield Pair(CHANGE, "letterboxed", photo, np.pad(photo, ((bars, bars), (0, 0), (0, 0))))
    faults = {
        "untouched over halo": ("halo", STRONG),
        "untouched over over-sharpened": ("high_sharpen", find("high_sharpen").kadid_levels[1:]),
        "untouched over blown highlights": ("overexposed", STRONG),
    }
    for case, (fault, severities) in faults.items():
        for severity in severities:
            yield Pair(ORDER, case, photo, np.asarray(worse(fault, photo, severity, seed)))
    yield Pair(ORDER, "bokeh over missed focus", defocused(photo, subject=False), defocused(photo, subject=True))
    yield Pair(ORDER, "JPEG quality 90 over 10", encoded(photo, 90), encoded(photo, 10))


@functools.partial(jax.jit, static_argnums=0)
def worse(fault: str, photo: np.ndarray, severity: float, seed: np.uint32) -> jax.Array:
    """A photograph (H, W, 3) uint8 under a type of the bank."""
    image = apply(fault, jax.random.key(seed), photo.astype(jnp.float32) / 255.0, severity)
    return jnp.rint(image * 255.0).astype(jnp.uint8)


def sizes(photo: np.ndarray, megapixels: float) -> Iterator[Pair]:
    """A photograph at full size, and one enlarged to 12 megapixels, each beside its reductions.

    `megapixels`: how large such photographs are, as the rows say it.
    """
    full = {f"{megapixels:.1f} megapixels": photo}
    if (scale := math.sqrt(LARGE / math.prod(photo.shape[:2]))) > 1:
        full[f"enlarged from {megapixels:.1f} to {LARGE / 1e6:.0f} megapixels"] = resized(photo, scale)
    for case, image in full.items():
        for short in SHORT_SIDES:
            if short < min(image.shape[:2]):
                reduced = resized(image, short / min(image.shape[:2]), Image.Resampling.BICUBIC)
                yield Pair(CHANGE, f"{case}, beside short side {short}", image, reduced)
