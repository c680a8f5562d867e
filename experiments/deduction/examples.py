"""What the drops learn from: images whose fault, its place and its visible drop are known, and ordinary images.

An example is drawn from its number alone, so that kept features stay those of the same examples.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageFilter, ImageOps

from driqa_jax import degradations
from driqa_jax.degradations import NAMES, Chain
from driqa_jax.degradations.registry import find
from experiments.deduction import damages, light
from experiments.deduction.human_scale import MEANS
from experiments.deduction.masks import mask
from experiments.deduction.visible import TYPES, drop_at

# Widths and heights of contents that are wider than high, and how often. The human means belong to the first.
SHAPES = ((512, 384), (512, 512), (576, 384))
SHAPE_SHARES = (0.45, 0.4, 0.15)
PRISTINE_SCORE = 0.8  # of photographs without a rating
GOOD = 0.72  # least score of a rated photograph that serves as a content
ENLARGED = 0.25  # share of images that are enlarged, to at most this long side
LONGEST = 2400
UNTOUCHED = 0.1  # share of composites without a fault
BARS = 0.12  # share of clean photographs with bars on two sides, as films have them
# Half of the composites have a fault of these kinds, which a map must show before others.
COMMON = (
    *("gaussian_blur", "lens_blur", "motion_blur", "camera_shake"),
    *("white_noise", "sensor_noise", "camera_noise"),
    *("jpeg", "jpeg", "denoise"),
    *("underexposed", "low_light", "darken"),
    *("overexposed", "overexposed", "brighten"),
)
SCENE = ("out_of_focus",)  # blurs the subject or what is around it: `_focus` tells the one from the other
BLUR = 0.004, 0.03  # deviation of a lost focus, in image widths
BLUR_SEEN, BLUR_DROPS = (0.004, 0.01, 0.03), (0.15, 0.4, 0.7)  # its drop; ours
# Faults of which the features of a frozen backbone show little.
HARD = (
    *("gaussian_blur", "lens_blur", "camera_shake", "over_smoothing", "ringing"),
    *("brighten", "overexposed", "overexposed", "color_cast", "color_cast", "color_shift"),
    *("color_saturation_1", "color_saturation_2", "non_eccentricity_patch", "dead_stripe", "quantization"),
)
_FILTERS = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX


class Photo(NamedTuple):
    """A source of contents: a name, what opens it as an RGB image, and its score in [0, 1], or None."""

    name: str
    open: Callable[[], Image.Image]
    score: float | None


class Example(NamedTuple):
    """An image (H, W, 3) uint8.

    `base`: the score that it would have without the fault; -1 if nobody rated it. `type`: place in `TYPES`, -1 for
    none. `drop`: of the fault, in [0, 1]. `area`: (H, W) float in [0, 1], how much of the fault is in a pixel; None if
    it is everywhere. `kind`: of `KINDS`. `photo`: the place in `Pool.rated` or `Pool.unrated` of a photograph that is
    shown as it is, else -1.
    """

    image: np.ndarray
    base: float
    type: int
    drop: float
    area: np.ndarray | None
    kind: str
    photo: int = -1


class Pool(NamedTuple):
    """The photographs to draw from: `pristine`; `rated`, in the state in which people rated them; `good`, those of them
    that may serve as contents; `unrated`, in the state in which somebody named their faults."""

    pristine: Sequence[Photo]
    rated: Sequence[Photo]
    good: Sequence[Photo]
    unrated: Sequence[Photo] = ()

    @classmethod
    def of(cls, pristine: Sequence[Photo], rated: Sequence[Photo], unrated: Sequence[Photo] = ()) -> Pool:
        """A pool whose `good` photographs have a score of at least `GOOD`."""
        return cls(pristine, rated, [photo for photo in rated if (photo.score or 0) >= GOOD], unrated)


def draw(kind: str, number: int, pool: Pool, seed: int = 0) -> Example:
    """Example `number` of a kind of `KINDS`; equal arguments give equal pixels on one machine."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    example = KINDS[kind](rng, pool)
    if rng.random() >= ENLARGED:
        return example
    # What people see of a large photograph is seen in the whole of it, not in pixels.
    image = Image.fromarray(example.image)
    scale = min(rng.uniform(1.2, 4.0), LONGEST / max(image.size))
    image = _resized(image, scale, _FILTERS[rng.integers(3)])
    return example._replace(image=np.asarray(_encoded(image, rng, 80, 98) if rng.random() < 0.5 else image))


def _as_rated(rng, pool):
    return _as_it_is(rng, pool.rated, "rated")


def _unrated(rng, pool):
    return _as_it_is(rng, pool.unrated, "unrated")


def _as_it_is(rng, photos, kind):
    place = int(rng.integers(len(photos)))
    image, score = photos[place].open(), photos[place].score
    if rng.random() < 0.5:
        image = _encoded(_resized(image, rng.uniform(0.4, 1.0), Image.Resampling.LANCZOS), rng, 80, 98)
    return Example(np.asarray(image), -1.0 if score is None else score, -1, 0.0, None, kind, place)


def _clean(rng, pool):
    """As cameras and pages deliver a photograph: resized, sharpened, with a tone curve, with bars, encoded."""
    image, base = _content(rng, pool)
    if rng.random() < 0.6:
        image = _resized(image, rng.uniform(0.4, 1.0), _FILTERS[rng.integers(len(_FILTERS))])
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.UnsharpMask(1, int(rng.integers(20, 60)), 0))
    if rng.random() < 0.2:
        curve = (np.arange(256) / 255) ** rng.uniform(0.85, 1.2)
        image = image.point([round(255 * value) for value in curve] * 3)
    if rng.random() < BARS:
        image = _barred(image, rng)
    if rng.random() < 0.8:
        image = _encoded(image, rng, 75, 98)
    return Example(np.asarray(image), base, -1, 0.0, None, "clean")


def _kadid(rng, pool):
    return _whole(rng, pool, tuple(MEANS), "kadid")


def _camera(rng, pool):
    return _whole(rng, pool, tuple(name for name in TYPES if name not in (*MEANS, *SCENE)), "camera")


def _whole(rng, pool, names, kind):
    image, base = _content(rng, pool)
    name = names[rng.integers(len(names))]
    severity = _severity(rng, name)
    made = Image.fromarray(degraded(np.asarray(image), name, severity, rng))
    if kind != "kadid" and rng.random() < 0.4:
        made = _encoded(made, rng, 85, 97)
    return Example(np.asarray(made), base, TYPES.index(name), drop_at(name, severity), None, kind)


def _part(rng, pool):
    """A composite: the fault is in a part of the image, half of the seams are feathered, the codec comes last."""
    image, base = _content(rng, pool)
    names = COMMON if rng.random() < 0.5 else tuple(name for name in TYPES if name not in SCENE)
    name = names[rng.integers(len(names))]
    severity, untouched = _severity(rng, name), rng.random() < UNTOUCHED
    photo = np.asarray(image)
    area = mask(rng, *photo.shape[:2])
    other = photo if untouched else degraded(photo, name, severity, rng)
    made = Image.fromarray(np.rint(photo * (1 - area[..., None]) + other * area[..., None]).astype(np.uint8))
    if name not in ("jpeg", "jpeg2000") and rng.random() < 0.4:
        made = _encoded(made, rng, 85, 97)
    if untouched:
        return Example(np.asarray(made), base, -1, 0.0, None, "part")
    return Example(np.asarray(made), base, TYPES.index(name), drop_at(name, severity), area, "part")


def _focus(rng, pool):
    """A subject in the middle before a blurred background, as photographers like it, or a blurred subject."""
    image, base = _content(rng, pool)
    width = rng.uniform(*BLUR)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(width * image.width)))
    photo, (row, column) = np.asarray(image), rng.uniform(0.38, 0.62, 2)
    y, x = np.mgrid[0 : image.height, 0 : image.width]
    high, wide = rng.uniform(0.18, 0.36, 2)
    far = np.hypot((y / image.height - row) / high, (x / image.width - column) / wide)
    subject = np.clip((1 - far) / rng.uniform(0.05, 0.3) + 0.5, 0, 1).astype(np.float32)
    blurred = 1 - subject if (bokeh := rng.random() < 0.5) else subject
    made = np.rint(photo * (1 - blurred[..., None]) + soft * blurred[..., None]).astype(np.uint8)
    if bokeh:
        return Example(made, base, -1, 0.0, None, "focus")
    drop = float(np.interp(width, BLUR_SEEN, BLUR_DROPS))
    return Example(made, base, TYPES.index("out_of_focus"), drop, subject, "focus")


def _hard(rng, pool):
    return _whole(rng, pool, HARD, "hard")


def _noise(rng, pool):
    """A photograph at its own size, soft as a sensor's pixels are, with real noise or without."""
    photo = pool.pristine[rng.integers(len(pool.pristine))].open()
    wide, high = SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)]
    left, top = (int(rng.integers(max(free, 0) + 1)) for free in (photo.width - wide, photo.height - high))
    image = photo.crop((left, top, left + wide, top + high))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1)))
    noisy, drop = light.noise(rng, np.asarray(image))
    clean = rng.random() < 0.25
    made = image if clean else Image.fromarray(noisy)
    if rng.random() < 0.6:
        made = _encoded(made, rng, 88, 98)
    if clean:
        return Example(np.asarray(made), PRISTINE_SCORE, -1, 0.0, None, "noise")
    return Example(np.asarray(made), PRISTINE_SCORE, TYPES.index("camera_noise"), drop, None, "noise")


def _dark(rng, pool):
    image, base = _content(rng, pool)
    made, area, drop = light.dark(rng, np.asarray(image))
    made = Image.fromarray(made)
    if rng.random() < 0.6:
        made = _encoded(made, rng, 80, 97)
    return Example(np.asarray(made), base, TYPES.index("underexposed"), drop, area if area.min() < 1 else None, "dark")


def _file(rng, pool):
    """A damaged file at the size at which it was damaged: what other programs than ours make of it."""
    image, base = _content(rng, pool)
    image = _resized(image, rng.uniform(1.0, 2.5) if rng.random() < 0.5 else 1.0, _FILTERS[1])
    name, make = tuple(damages.DAMAGES.items())[rng.integers(len(damages.DAMAGES))]
    made, area = make(rng, np.asarray(image))
    return Example(made, base, TYPES.index(name), damages.DROPS[name], area, "file")


KINDS: dict[str, Callable[[np.random.Generator, Pool], Example]] = {
    "kadid": _kadid,
    "rated": _as_rated,
    "unrated": _unrated,
    "part": _part,
    "camera": _camera,
    "clean": _clean,
    "focus": _focus,
    "file": _file,
    "hard": _hard,
    "noise": _noise,
    "dark": _dark,
}


def _content(rng, pool):
    """A photograph in one of `SHAPES` (or upright) and its score."""
    size = SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)]
    if pool.good and rng.random() < 0.5:
        photo = pool.good[rng.integers(len(pool.good))]
        image, score, least = photo.open(), photo.score, 0.75
    else:
        image, score, least = pool.pristine[rng.integers(len(pool.pristine))].open(), PRISTINE_SCORE, 0.45
        if image.height > image.width:
            size = size[::-1]
    # The crop is the largest of this shape, or smaller as long as it is not enlarged.
    fit = min(image.width / size[0], image.height / size[1])
    scale = fit * (1.0 if rng.random() < 0.5 else rng.uniform(min(max(least, 1 / fit), 1.0), 1.0))
    wide, high = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, image.width - wide), rng.uniform(0, image.height - high)
    return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high)), score


def _severity(rng, name):
    levels = find(name).kadid_levels
    if levels is None:
        return float(rng.uniform(0.08, 1.0))
    return float(rng.uniform(0.5 * min(levels), max(levels)) if rng.random() < 0.75 else rng.choice(levels))


def degraded(photo: np.ndarray, name: str, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A photograph (H, W, 3) uint8 under a type of `TYPES`."""
    key = jax.random.key(int(rng.integers(2**31)))
    chain = Chain(jnp.array([[NAMES.index(name)]], jnp.int32), jnp.array([[severity]], jnp.float32))
    return np.asarray(_apply(key, jnp.asarray(photo, jnp.float32)[None] / 255.0, chain))


@jax.jit
def _apply(key, image, chain):
    made = degradations.apply_chains(key, image, chain, jnp.zeros(1, jnp.int32), names=TYPES)
    return jnp.rint(made[0, 0] * 255.0).astype(jnp.uint8)


def _barred(image, rng):
    """With equal bars on two sides, as films have them; black or white."""
    wide = round(rng.uniform(0.06, 0.16) * min(image.size))
    border = (0, wide) if rng.random() < 0.6 else (wide, 0)
    return ImageOps.expand(image, border, "black" if rng.random() < 0.7 else "white")


def _resized(image, scale, method):
    return image.resize((max(round(image.width * scale), 32), max(round(image.height * scale), 32)), method)


def _encoded(image, rng, lowest, highest):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(lowest, highest + 1)), subsampling=int(rng.choice([0, 2])))
    return Image.open(file).convert("RGB")
