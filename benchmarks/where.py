"""Whether maps, findings and scores show faults whose kind and place are known: one table.

    python -m benchmarks where --pristine PHOTOS --noisy POLYU/CroppedImages --model lite -o where.md
        [--labeled docs/results/real_photos_by_eye.csv --images LIVEC]

`--pristine` is a folder of photographs that no training has seen. They are reduced to 512x384 pixels or as many. The
faults of halves, of blobs and of damaged files are made here, with Pillow and numpy, not by the bank that models learn
from; the named types are those of the bank. `--noisy` is a folder of PolyU's real camera noise: pairs `*_real.JPG` and
`*_mean.JPG`, of which those below 32 dB count. `--labeled` is a CSV `image,groups` of real photographs in `--images`:
the codes of the groups of which a viewer would name one first, or `none` where nothing need be named, between spaces.
Intervals hold 95 % over images.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

import driqa_jax
from benchmarks.photographs import blurred, clipped, defocused, encoded, photographs, resized
from driqa_jax.data.decode import decode
from driqa_jax.degradations.registry import find
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.tables import Table, save_table, to_markdown
from driqa_jax.inference.findings import group_of
from driqa_jax.progress import Progress
from experiments.deduction.examples import SCENE, degraded
from experiments.deduction.human_scale import MEANS, UNMATCHED
from experiments.deduction.masks import mask
from experiments.deduction.visible import TYPES, drop_at

NOISY = 32.0  # dB between a noisy photograph and the mean of many
VISIBLE = 3.5  # a human mean below it is a visible fault, as is a drop of .3
DAMAGE_DROP = 10.0  # points that a damaged file must lose
REAL = "real noise"
NONE = "none"
NAMED_PHOTOS = 8  # of the photographs, those for the types of the bank


class Case(NamedTuple):
    """An image (H, W, 3) uint8 of a `measure` with a `fault`; `area` (H, W) bool, where it is, or None.

    `photo`: the name of the untouched image, of measure "photo", that it was made from.
    """

    measure: str
    fault: str
    photo: str
    image: np.ndarray
    area: np.ndarray | None = None


class Seen(NamedTuple):
    """What a model says of an image: score in points, map (rows, columns) in points, codes of the groups it names."""

    score: float
    map: np.ndarray
    groups: Sequence[str]


def main(argv: Sequence[str]) -> int:
    """Explain the cases and print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks where", description=__doc__.split("\n")[0])
    parser.add_argument("--pristine", required=True, help="folder of photographs that no training has seen")
    parser.add_argument("--noisy", type=pathlib.Path, help="folder of pairs of PolyU")
    parser.add_argument("--labeled", type=pathlib.Path, help="CSV image,groups of real photographs")
    parser.add_argument("--images", type=pathlib.Path, default=pathlib.Path(), help="folder of these photographs")
    parser.add_argument("--model", default="lite", help="bundled name or weights file")
    parser.add_argument("-o", "--output", help="also write the table: .md, .csv or .tex")
    args = parser.parse_args(argv)
    scorer = driqa_jax.load(args.model)
    made = [*cases(photographs(args.pristine)), *(noisy(args.noisy) if args.noisy else ())]
    made += labeled(args.labeled, args.images) if args.labeled else ()
    seen = []
    with Progress() as progress:
        for case in made:
            found = scorer.explain(case.image, restore=False)
            seen.append(Seen(found.score, found.quality_map, [fault.group for fault in found.faults()]))
            progress("explaining images", len(seen), len(made))
    table = Table(f"Known faults, {args.model}", ("measure", "fault", "images", args.model), rows(made, seen))
    print(to_markdown(table))
    if args.output:
        save_table(table, args.output)
    return 0


def rows(made: Sequence[Case], seen: Sequence[Seen]) -> list[list[str | int | Estimate]]:
    """The rows of the table: measure, fault, number of images, figure."""
    plain = {case.photo: each for case, each in zip(made, seen, strict=True) if case.measure == "photo"}
    found: dict[tuple[str, str], list[float]] = {}

    def add(measure, fault, value):
        found.setdefault((measure, fault), []).append(float(value))

    for case, each in zip(made, seen, strict=True):
        if case.measure == "half":
            inside = _shares(case.area, each.map.shape)
            gap = _weighted(each.map, 1 - inside) - _weighted(each.map, inside)
            moved = _weighted(each.map - plain[case.photo].map, 1 - inside)
            for fault in (case.fault, "all"):
                add("worse half found", fault, gap > 0)
                add("gap of the halves, points", fault, gap)
                add("change of the sound half, points", fault, moved)
        elif case.measure == "blob":
            inside = _shares(case.area, each.map.shape)
            for fault in (case.fault, "all"):
                add("patch AUC", fault, _auc(-each.map[inside > 0.9], -each.map[inside < 0.1]))
        elif case.measure == "ordinary":
            add("ordinary output: nothing named", "all", not each.groups)
        elif case.measure == "named":
            right = bool(each.groups) and each.groups[0] == group_of(case.fault)[0]
            for fault in (case.fault, "KADID-10k's types" if case.fault in MEANS else "other types"):
                add("visible fault: its group is first", fault, right)
        elif case.measure == "damage":
            for fault in (case.fault, "all"):
                add(
                    f"damaged: {DAMAGE_DROP:.0f} points lower",
                    fault,
                    plain[case.photo].score - each.score >= DAMAGE_DROP,
                )
                add("damaged: named so", fault, "damage" in each.groups)
        elif case.measure == "noisy":
            said = "noise" in each.groups
            add("noise named" if case.fault == REAL else "noise not named", case.fault, said == (case.fault == REAL))
        elif case.measure == "labeled":
            right = (each.groups[0] if each.groups else NONE) in case.fault.split()
            label = "a fault" if NONE not in case.fault else "nothing" if case.fault == NONE else "nothing or a fault"
            for fault in (label, "all"):
                add("real photo: first named as by a viewer", fault, right)
    measures = list(dict.fromkeys(measure for measure, _ in found))
    order = sorted(found, key=lambda key: measures.index(key[0]))
    return [[*key, len(found[key]), estimate(np.array(found[key]))] for key in order]


def cases(photos: dict[str, np.ndarray], named: int = NAMED_PHOTOS) -> Iterator[Case]:
    """The images of all measures, made from photographs (H, W, 3) uint8 by name; equal photographs, equal images.

    The first `named` photographs get the types of the bank.
    """
    for number, (name, photo) in enumerate(photos.items()):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        yield Case("photo", "", name, photo)
        for fault, make in FAULTS.items():
            worse = make(rng, photo)
            for measure, area in (("half", _half(rng, *photo.shape[:2])), ("blob", mask(rng, *photo.shape[:2]) > 0.5)):
                yield Case(measure, fault, name, np.where(area[..., None], worse, photo), area)
        for make in _ORDINARY:
            yield Case("ordinary", "", name, make(photo))
        for fault, make in DAMAGES.items():
            yield Case("damage", fault, name, make(rng, photo))
        if number < named:
            for fault, severities in visible().items():
                yield Case("named", fault, name, degraded(photo, fault, float(rng.choice(severities)), rng))
            yield Case("named", "out_of_focus", name, defocused(photo, subject=True))


def visible() -> dict[str, list[float]]:
    """Severities of each type of the bank at which people see a fault; without blur that may be the background's."""
    found = {}
    for name in TYPES:
        if name in UNMATCHED or name in SCENE:
            continue
        levels = find(name).kadid_levels
        if levels:
            severities = [level for level, mean in zip(levels, MEANS[name], strict=True) if mean < VISIBLE]
        else:
            severities = [level for level in (0.25, 0.5, 0.75, 1.0) if drop_at(name, level) >= 0.3]
        if severities:
            found[name] = severities
    return found


def noisy(folder: pathlib.Path) -> Iterator[Case]:
    """The pairs of PolyU below `NOISY`. Raises UserError if there is none."""
    count = 0
    for path in sorted(folder.glob("*_real.JPG")):
        real, mean = decode(path), decode(path.with_name(path.name.replace("_real", "_mean")))
        error = np.square(real.astype(np.float64) - mean).mean()
        if 10 * np.log10(255**2 / max(error, 1e-9)) < NOISY:
            count += 1
            yield Case("noisy", REAL, path.name, real)
            yield Case("noisy", "mean of many", path.name, mean)
    if not count:
        raise UserError(f"{folder}: no pair *_real.JPG and *_mean.JPG below {NOISY:.0f} dB")


def labeled(table: pathlib.Path, folder: pathlib.Path) -> Iterator[Case]:
    """The photographs of a CSV `image,groups`. Raises UserError for another table."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"image", "groups"} <= rows[0].keys():
        raise UserError(f"{table}: has no rows with the columns image and groups")
    for row in rows:
        yield Case("labeled", row["groups"], row["image"], decode(str(folder / row["image"])))


FAULTS: dict[str, Callable] = {
    "blur": lambda rng, image: blurred(image, 1 / 128),
    "noise": lambda rng, image: clipped(image + rng.normal(0, 30, image.shape)),
    "JPEG 8": lambda rng, image: encoded(image, 8),
    "dark": lambda rng, image: clipped(image * 0.25),
    "blown": lambda rng, image: clipped(image * 2.5),
}
_ORDINARY: tuple[Callable, ...] = (
    lambda image: encoded(image, 75),
    lambda image: encoded(image, 92),
    lambda image: encoded(resized(image, 0.6), 85),
    lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.UnsharpMask(1, 40, 0))),
    lambda image: clipped(255 * (image / 255.0) ** 0.9),
)


def _downloaded(share: float) -> Callable:
    def make(rng, image):
        whole, rows = encoded(image, 90).copy(), round(share * image.shape[0] / 16) * 16
        whole[rows:] = 128
        return whole

    return make


def _green(rng, image):
    made = image.copy()
    made[len(made) // 2 :] = (0, 135, 0)
    return made


def _combed(rng, image):
    made = image.copy()
    made[1::2] = np.roll(made[1::2], rng.integers(6, 15), axis=1)
    return made


def _blocks(rng, image):
    made = image.copy()
    for _ in range(60):
        y, x = rng.integers(0, image.shape[0] - 32), rng.integers(0, image.shape[1] - 32)
        block = made[y : y + 32, x : x + 32]
        made[y : y + 32, x : x + 32] = np.roll(block, 8, axis=rng.integers(2))[..., [1, 2, 0]]
    return made


def _stripe(rng, image):
    made, start = image.copy(), int(rng.uniform(0.1, 0.8) * image.shape[1])
    made[:, start : start + image.shape[1] // 40] = rng.choice([0, 255], 3)
    return made


DAMAGES: dict[str, Callable] = {
    "a quarter downloaded": _downloaded(0.25),
    "half downloaded": _downloaded(0.5),
    "lower half green": _green,
    "combing": _combed,
    "wrong blocks": _blocks,
    "stripe": _stripe,
}


def _half(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One half, bool (height, width)."""
    y, x = np.mgrid[0:height, 0:width]
    inside = (y < height / 2, x < width / 2)[rng.integers(2)]
    return inside if rng.random() < 0.5 else ~inside


def _shares(area: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The share of `area` (H, W) bool in each cell of a map of `shape`."""
    return np.asarray(Image.fromarray(area.astype(np.float32)).resize(shape[::-1], Image.Resampling.BOX))


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum())


def _auc(faulty: np.ndarray, sound: np.ndarray) -> float:
    """The share of pairs in which the faulty patch has the larger value; NaN without a pair."""
    if not (len(faulty) and len(sound)):
        return float("nan")
    difference = faulty[:, None] - sound[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
