"""A view of one image: the whole image downscaled, and tiles at native resolution."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

STRIDE = 32  # the quality backbone's coarsest stride: `valid` is always a multiple of it
KINDS = ("dual", "crop")
VIEWS = ("whole", "valid", "tiles", "tile_boxes")  # the arrays of a view, in the order in which a model takes them
LARGE = 6e6  # pixels of an image that two threads resize
# What a small image is enlarged with. Bilinear interpolation blurs it, and the blur looks like a fault.
ENLARGING = {"bilinear": Image.Resampling.BILINEAR, "hamming": Image.Resampling.HAMMING}


@dataclasses.dataclass(frozen=True)
class ViewRule:
    """How an image becomes a view; scores under one rule are comparable.

    `short`: pixels of the short side of `whole`; `long`: the largest long side; `tile`: side of a square tile; `tiles`:
    their number (a square); `canvases`: the (height, width) that `whole` may be padded to. All but `tile` and `tiles`
    are multiples of 32. `kind`: "dual", or "crop" as in the literature: the image is resized to `short`, and one tile
    (a multiple of 32) is both the tile and `whole`. `enlarging`: one of `ENLARGING`, the filter of a direction in which
    the image is enlarged; what is reduced is averaged by a triangle. Raises ValueError for other values.
    """

    short: int = 320
    long: int = 512
    tile: int = 224
    tiles: int = 4
    canvases: tuple[tuple[int, int], ...] = ((320, 320), (320, 512), (512, 320))
    kind: str = "dual"
    enlarging: str = "bilinear"

    def __post_init__(self):
        object.__setattr__(self, "canvases", tuple((int(h), int(w)) for h, w in self.canvases))
        sides = [self.short, self.long, *(side for canvas in self.canvases for side in canvas)]
        if not self.canvases or any(side < STRIDE or side % STRIDE for side in sides):
            raise ValueError(f"short, long and canvases must be positive multiples of {STRIDE}: {self}")
        if self.tiles < 1 or math.isqrt(self.tiles) ** 2 != self.tiles:
            raise ValueError(f"tiles must be a square number (1, 4, 9, ...), got {self.tiles}")
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1, got {self.tile}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.enlarging not in ENLARGING:
            raise ValueError(f"enlarging must be one of {', '.join(ENLARGING)}, got {self.enlarging!r}")
        if self.kind == "crop" and (self.tiles != 1 or self.tile % STRIDE or self.tile > self.short):
            raise ValueError(f"a crop is one tile, a multiple of {STRIDE} and at most short: {self}")

    def canvas_for(self, height: int, width: int) -> tuple[int, int]:
        """The smallest canvas that holds a (height, width) image without shrinking, else the best fit."""
        free = self.size_in(height, width)

        def rank(canvas: tuple[int, int]) -> tuple[bool, float, int]:
            holds = _holds(canvas, free)
            return not holds, 0 if holds else -self._scale(height, width, canvas), canvas[0] * canvas[1]

        return min(self.canvases, key=rank)

    def size_in(self, height: int, width: int, canvas: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns of a (height, width) image in `whole`: multiples of 32 that fit the canvas."""
        scale = self._scale(height, width, None)
        free = _nearest_stride(height * scale), _nearest_stride(width * scale)
        if canvas is None or _holds(canvas, free):
            return free
        scale = self._scale(height, width, canvas)
        return _nearest_stride(height * scale), _nearest_stride(width * scale)

    def to_dict(self) -> dict:
        """Plain values for JSON. Without `enlarging` if it is "bilinear", so that rules without the key stay equal."""
        values = {**dataclasses.asdict(self), "canvases": [list(canvas) for canvas in self.canvases]}
        return {name: value for name, value in values.items() if (name, value) != ("enlarging", "bilinear")}

    @classmethod
    def from_dict(cls, values: dict) -> ViewRule:
        """The inverse of `to_dict`. Raises TypeError for an unknown key."""
        return cls(**values)

    def _scale(self, height: int, width: int, canvas: tuple[int, int] | None) -> float:
        bounds = [self.short / min(height, width), self.long / max(height, width)]
        if canvas is not None:
            bounds += [canvas[0] / height, canvas[1] / width]
        return min(bounds)


def _holds(canvas: tuple[int, int], size: tuple[int, int]) -> bool:
    return size[0] <= canvas[0] and size[1] <= canvas[1]


def _nearest_stride(pixels: float) -> int:
    return max(int(pixels / STRIDE + 0.5), 1) * STRIDE


class Geometry(NamedTuple):
    """Where the pixels of a view come from; shared by NumPy, JAX and the rank pairs of training.

    `source`: (rows, columns) to which the image is resized before tiling (unchanged unless `kind` is "crop"). `canvas`:
    (height, width) of `whole`. `valid`: (rows, columns) of the image at its top left. `corners`: (y, x) of each tile in
    the source. `beyond`: (rows, columns) of a tile outside the source, filled by mirroring. `boxes`: float32 (K, 4),
    y0, x0, y1, x1 of each tile in fractions of the image.
    """

    source: tuple[int, int]
    canvas: tuple[int, int]
    valid: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    beyond: tuple[int, int]
    boxes: np.ndarray


def geometry(
    height: int,
    width: int,
    rule: ViewRule,
    canvas: tuple[int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> Geometry:
    """The geometry of the view of a (height, width) image; `canvas` and `rng` as in `make_view`.

    Raises ValueError for a canvas smaller than a crop.
    """
    crop, tile = rule.kind == "crop", rule.tile
    if crop:
        canvas = rule.canvas_for(tile, tile) if canvas is None else canvas
        if min(canvas) < tile:
            raise ValueError(f"a canvas of {canvas} does not hold a crop of {tile}")
        scale = rule.short / min(height, width)
        source = max(round(height * scale), rule.short), max(round(width * scale), rule.short)
        valid = tile, tile
    else:
        canvas = rule.canvas_for(height, width) if canvas is None else canvas
        source, valid = (height, width), rule.size_in(height, width, canvas)
    corners = _corners([max(side - tile, 0) for side in source], rule.tiles, rng)
    boxes = [(y / height, x / width, (y + tile) / height, (x + tile) / width) for y, x in corners]
    boxes = [(0, 0, 1, 1)] if crop else boxes  # `whole` of a crop is the tile itself
    beyond = max(tile - source[0], 0), max(tile - source[1], 0)
    return Geometry(source, (canvas[0], canvas[1]), valid, tuple(corners), beyond, np.array(boxes, np.float32))


def tile_fractions(count: int) -> np.ndarray:
    """Offsets of `count` grid tiles along a side, as fractions of the free space beside a tile: (sqrt(count),)."""
    grid = math.isqrt(count)
    return (2 * np.arange(grid) + 1) / (2 * grid)


def _corners(space: list[int], count: int, rng: np.random.Generator | None) -> list[tuple[int, int]]:
    if rng is not None:
        return [(int(rng.integers(space[0] + 1)), int(rng.integers(space[1] + 1))) for _ in range(count)]
    fractions = tile_fractions(count)
    return [(round(space[0] * fy), round(space[1] * fx)) for fy in fractions for fx in fractions]


def make_view(
    image: np.ndarray | Image.Image,
    rule: ViewRule,
    canvas: tuple[int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """The view of one image, uint8 (H, W, 3) sRGB or a PIL image of mode RGB.

    Returns `whole` uint8 (*canvas, 3) (default canvas: `rule.canvas_for`), `valid` int32 (2,), `tiles` uint8
    (K, tile, tile, 3), `tile_boxes` float32 (K, 4) as y0, x0, y1, x1 in fractions of the image. Tiles lie on a fixed
    grid, or at random positions if `rng` is given. Raises ValueError for another shape, dtype or mode.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"a view is made of uint8 (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    elif image.mode != "RGB":
        raise ValueError(f"a view is made of an image of mode RGB, got {image.mode}")
    cut = geometry(image.height, image.width, rule, canvas, rng)
    source = _resized(image, cut.source, rule.enlarging)
    tiles = np.empty((rule.tiles, rule.tile, rule.tile, 3), np.uint8)
    beyond = [(0, side) for side in cut.beyond]
    for tile, (y, x) in zip(tiles, cut.corners, strict=True):
        inside = source.crop((x, y, min(x + rule.tile, source.width), min(y + rule.tile, source.height)))
        # Mirrored, not zero-padded, because a black edge would look like a degradation.
        tile[:] = np.pad(np.asarray(inside), (*beyond, (0, 0)), mode="symmetric")
    whole = np.zeros((*cut.canvas, 3), np.uint8)
    rows, columns = cut.valid
    whole[:rows, :columns] = tiles[0] if rule.kind == "crop" else np.asarray(_resized(image, cut.valid, rule.enlarging))
    return {"whole": whole, "valid": np.array(cut.valid, np.int32), "tiles": tiles, "tile_boxes": cut.boxes}


def enlarging_weights(old: int, new: int) -> np.ndarray:
    """(new, old) float64: how much of each of `old` pixels is in each of `new` ones, by "hamming".

    A pixel lies between two, and the nearer one counts more than by bilinear interpolation: each counts as
    sinc(x) (.54 + .46 cos(pi x)) at its distance x below 1, and both together 1.
    """
    distance = np.arange(old) + 0.5 - (np.arange(new)[:, None] + 0.5) * old / new
    weights = np.sinc(distance) * (0.54 + 0.46 * np.cos(np.pi * distance)) * (np.abs(distance) < 1)
    return weights / weights.sum(axis=1, keepdims=True)


def _resized(image: Image.Image, size: tuple[int, int], enlarging: str) -> Image.Image:
    height, width = size
    # Pillow would copy an image of the same size, and a large one should not be in memory twice.
    if image.size == (width, height):
        return image
    filters = [
        ENLARGING[enlarging] if new > old else Image.Resampling.BILINEAR
        for new, old in ((width, image.width), (height, image.height))
    ]
    if filters != [Image.Resampling.BILINEAR] * 2:
        return image.resize((width, image.height), filters[0]).resize((width, height), filters[1])
    if image.width * image.height < LARGE:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    middle, joined = height // 2, Image.new("RGB", (width, height))

    def resize(top: int, bottom: int) -> None:
        # The filter reads beyond the box, so the halves have the pixels of the whole, except that Pillow may order
        # its two passes otherwise if these cost nearly the same; pixels then differ by rounding.
        box = (0, top * image.height / height, image.width, bottom * image.height / height)
        joined.paste(image.resize((width, bottom - top), Image.Resampling.BILINEAR, box), (0, top))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        lower = pool.submit(resize, middle, height)
        resize(0, middle)
        lower.result()
    return joined


def mirrored(whole: Any, valid: Any, tiles: Any, tile_boxes: Any, xp: Any = np) -> tuple[Any, Any, Any, Any]:
    """The views of the mirror images of a batch; tiles keep their order. `xp`: numpy, or jax.numpy for its arrays."""
    # The mirror image must also lie at the left of its canvas.
    columns = xp.arange(whole.shape[2])[None, :]
    source = xp.where(columns < valid[:, 1:], valid[:, 1:] - 1 - columns, columns)
    whole = xp.take_along_axis(whole, source[:, None, :, None], axis=2)
    y0, x0, y1, x1 = xp.split(tile_boxes, 4, axis=-1)
    return whole, valid, tiles[:, :, :, ::-1], xp.concatenate([y0, 1 - x1, y1, 1 - x0], axis=-1)
