"""Make a folder of bursts, the shots of which are degraded by known amounts, mixed with unrelated photos."""

import csv
import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from driqa_jax.data.bursts import group_shots
from driqa_jax.data.decode import decode
from driqa_jax.data.photo_facts import measure
from driqa_jax.degradations import apply
from driqa_jax.errors import UserError

UNTOUCHED = "untouched"
KINDS = {
    "shake": "motion_blur",
    "out of focus": "lens_blur",
    "noise": "sensor_noise",
    "overexposed": "brighten",
    "underexposed": "darken",
    "JPEG": "jpeg",
}
MIXED = (0.3, 0.6)  # severities beside an untouched shot
GRADED = (0.15, 0.45, 0.75)  # severities of a burst without one
JITTER = 32  # px by which the shots of a burst are moved against each other, at most


@dataclasses.dataclass(frozen=True)
class Shot:
    """A photo of the folder. `scene` is -1 for an unrelated photo; the severity of an untouched one is 0."""

    path: str
    scene: int
    kind: str
    severity: float


def make(photos: Sequence[str], folder: pathlib.Path, bursts: int, others: int, seed: int) -> list[Shot]:
    """Write `bursts` bursts of three shots and `others` single photos as PNG, and `truth.csv`; return the shots.

    Half of the bursts have an untouched shot beside two kinds of degradation; the others have one kind at three
    severities. No two scenes are similar. An existing folder of the same seed and size is used as it is.

    Raises UserError if there are too few different photos.
    """
    truth = folder / "truth.csv"
    if truth.exists():
        return read(truth)
    rng = np.random.default_rng(seed)
    bases = _different(sorted(photos), rng)
    if len(bases) < bursts + others:
        raise UserError(f"{bursts + others} different photos are needed, but there are {len(bases)}")
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    pairs = itertools.cycle(itertools.combinations(KINDS, 2))
    kinds = itertools.cycle(KINDS)
    shots = []
    for scene, base in enumerate(bases[: bursts + others]):
        image = decode(base)
        if scene >= bursts:
            plan = [(UNTOUCHED, 0.0)]
        elif scene % 2 == 0:
            plan = [(UNTOUCHED, 0.0), *((kind, float(rng.choice(MIXED))) for kind in next(pairs))]
        else:
            plan = [(kind, severity) for kind in (next(kinds),) for severity in GRADED]
        # Neither the name nor the order says which shot is which.
        for letter, place in zip("abc", rng.permutation(len(plan)), strict=False):
            kind, severity = plan[place]
            path = folder / "photos" / f"{scene:04}{letter}.png"
            Image.fromarray(_shot(image, kind, severity, rng)).save(path)
            shots.append(Shot(str(path), scene if scene < bursts else -1, kind, severity))
    _write(truth, shots)
    return shots


def read(truth: pathlib.Path) -> list[Shot]:
    """The shots of a folder."""
    with open(truth, newline="") as file:
        return [
            Shot(row["path"], int(row["scene"]), row["kind"], float(row["severity"])) for row in csv.DictReader(file)
        ]


def _write(truth: pathlib.Path, shots: Sequence[Shot]) -> None:
    with open(truth, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([field.name for field in dataclasses.fields(Shot)])
        rows.writerows(dataclasses.astuple(shot) for shot in shots)


def _different(photos: Sequence[str], rng: np.random.Generator) -> list[str]:
    """One photo of each scene, in random order."""
    groups = group_shots([measure(photo) for photo in photos])
    return [photos[groups[row][0]] for row in rng.permutation(len(groups))]


def _shot(image: np.ndarray, kind: str, severity: float, rng: np.random.Generator) -> np.ndarray:
    """The photo as one shot of a burst: moved by a few pixels, and degraded."""
    y, x = rng.integers(0, JITTER + 1, 2)
    height, width = (side - JITTER for side in image.shape[:2])
    image = image[y : y + height, x : x + width]
    if kind == UNTOUCHED:
        return image
    key = jax.random.key(int(rng.integers(2**31)))
    degraded = _degrade(KINDS[kind])(key, np.float32(image / 255), np.float32(severity))
    return np.uint8(np.rint(np.asarray(degraded) * 255))


@functools.cache
def _degrade(name: str):
    return jax.jit(functools.partial(apply, name))
