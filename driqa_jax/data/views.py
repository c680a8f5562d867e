"""A view of one photo: the whole picture made small, and tiles of it at native resolution."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

STRIDE = 32  # the quality backbone's coarsest stride: `valid` is always a multiple of it


@dataclasses.dataclass(frozen=True)
class ViewRule:
    """How a photo becomes a view; two photos seen under one rule are comparable.

    `short`: pixels of the short side of `whole`; `long`: the most pixels of its long side; `tile`: side of a
    square tile; `tiles`: how many (a square number); `canvases`: the (height, width) that `whole` may be
    padded to. All but `tile` and `tiles` are multiples of 32. `kind`: "dual", or "crop", the literature's habit: the
    photo is brought to `short`, one tile (a multiple of 32) is cut from it, and `whole` is that same tile. Raises
    ValueError for anything else.
    """

    short: int = 320
    long: int = 512
    tile: int = 224
    tiles: int = 4
    canvases: tuple[tuple[int, int], ...] = ((320, 320), (320, 512), (512, 320))
    kind: str = "dual"

    def __post_init__(self):
        object.__setattr__(self, "canvases", tuple((int(h), int(w)) for h, w in self.canvases))
        sides = [self.short, self.long, *(side for canvas in self.canvases for side in canvas)]
        if not self.canvases or any(side < STRIDE or side % STRIDE for side in sides):
            raise ValueError(f"short, long and canvases must be positive multiples of {STRIDE}: {self}")
        if self.tiles < 1 or math.isqrt(self.tiles) ** 2 != self.tiles:
            raise ValueError(f"tiles must be a square number (1, 4, 9, ...), got {self.tiles}")
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1, got {self.tile}")
        if self.kind not in _KINDS:
            raise ValueError(f"kind is {self.kind!r}; the choices are {', '.join(_KINDS)}")
        if self.kind == "crop" and (self.tiles != 1 or self.tile % STRIDE or self.tile > self.short):
            raise ValueError(f"a crop is one tile, a multiple of {STRIDE} and at most short: {self}")

    def canvas_for(self, height: int, width: int) -> tuple[int, int]:
        """The smallest canvas that holds a (height, width) picture unshrunk, else the best fitting."""
        free = self.size_in(height, width)

        def rank(canvas):
            holds = _holds(canvas, free)
            return not holds, 0 if holds else -self._scale(height, width, canvas), canvas[0] * canvas[1]

        return min(self.canvases, key=rank)

    def size_in(self, height: int, width: int, canvas: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns of `whole` that hold a (height, width) picture: multiples of 32 in the canvas."""
        scale = self._scale(height, width, None)
        free = _nearest_stride(height * scale), _nearest_stride(width * scale)
        if canvas is None or _holds(canvas, free):
            return free
        scale = self._scale(height, width, canvas)
        return _nearest_stride(height * scale), _nearest_stride(width * scale)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "canvases": [list(canvas) for canvas in self.canvases]}

    @classmethod
    def from_dict(cls, values: dict) -> ViewRule:
        """The inverse of `to_dict`; raises TypeError for an unknown key."""
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


def make_view(
    image: np.ndarray | Image.Image,
    rule: ViewRule,
    canvas: tuple[int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """The view of one picture, uint8 (H, W, 3) sRGB, or a PIL image of mode RGB.

    Gives `whole` uint8 (h, w, 3) where (h, w) is `canvas` (default: `rule.canvas_for`), `valid` int32 (2,),
    `tiles` uint8 (K, tile, tile, 3), `tile_boxes` float32 (K, 4) as y0, x0, y1, x1 in fractions of the
    picture. Tiles lie on a fixed grid, or at random where `rng` is given. Raises ValueError for another shape
    or dtype.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"a view is made of uint8 (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    elif image.mode != "RGB":
        raise ValueError(f"a view is made of an image of mode RGB, got {image.mode}")
    return _KINDS[rule.kind](image, rule, canvas, rng)


def _dual(image, rule, canvas, rng):
    width, height = image.size
    canvas = rule.canvas_for(height, width) if canvas is None else canvas
    rows, columns = rule.size_in(height, width, canvas)
    whole = np.zeros((*canvas, 3), np.uint8)
    small = image.resize((columns, rows), Image.Resampling.BILINEAR)
    whole[:rows, :columns] = np.asarray(small)
    tiles, boxes = _cut_tiles(image, rule, rng)
    return {"whole": whole, "valid": np.array([rows, columns], np.int32), "tiles": tiles, "tile_boxes": boxes}


def _crop(image, rule, canvas, rng):
    canvas = rule.canvas_for(rule.tile, rule.tile) if canvas is None else canvas
    if min(canvas) < rule.tile:
        raise ValueError(f"a canvas of {canvas} does not hold a crop of {rule.tile}")
    scale = rule.short / min(image.size)
    sides = tuple(max(round(side * scale), rule.short) for side in image.size)
    tiles, _ = _cut_tiles(image.resize(sides, Image.Resampling.BILINEAR), rule, rng)
    whole = np.zeros((*canvas, 3), np.uint8)
    whole[: rule.tile, : rule.tile] = tiles[0]
    valid = np.full(2, rule.tile, np.int32)
    return {"whole": whole, "valid": valid, "tiles": tiles, "tile_boxes": np.array([[0, 0, 1, 1]], np.float32)}


_KINDS = {"dual": _dual, "crop": _crop}


def _cut_tiles(image, rule, rng):
    width, height = image.size
    # Symmetric, not zeros: an invented black edge would read as a degradation.
    beyond = [(0, max(rule.tile - side, 0)) for side in (height, width)]
    room = max(height - rule.tile, 0), max(width - rule.tile, 0)
    tiles = np.empty((rule.tiles, rule.tile, rule.tile, 3), np.uint8)
    boxes = np.empty((rule.tiles, 4), np.float32)
    for k, (y, x) in enumerate(_offsets(room, rule.tiles, rng)):
        held = image.crop((x, y, min(x + rule.tile, width), min(y + rule.tile, height)))
        tiles[k] = np.pad(np.asarray(held), (*beyond, (0, 0)), mode="symmetric")
        boxes[k] = y / height, x / width, (y + rule.tile) / height, (x + rule.tile) / width
    return tiles, boxes


def _offsets(room, count, rng):
    if rng is not None:
        return [(int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))) for _ in range(count)]
    grid = math.isqrt(count)
    fractions = [(2 * i + 1) / (2 * grid) for i in range(grid)]
    return [(round(room[0] * fy), round(room[1] * fx)) for fy in fractions for fx in fractions]
