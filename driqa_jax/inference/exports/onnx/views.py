"""Emitters of what the model sees: from ready views, or from one image as `driqa_jax.data.views.make_view` does."""

import math

import numpy as np

from driqa_jax.data.views import STRIDE, ViewRule, tile_fractions
from driqa_jax.inference.exports.onnx.deduction import Views
from driqa_jax.inference.exports.onnx.graph import Graph


def views_in(g: Graph, rule: ViewRule) -> Views:
    """From the inputs `whole` (B, H, W, 3), `tiles` (B, K, S, S, 3) and `tile_boxes` (B, K, 4)."""
    cells = g("Div", g("Shape", "whole"), np.int64(STRIDE))
    rows, columns = (g("Squeeze", g.slice(cells, 0, i, i + 1)) for i in (1, 2))
    tiles = g.reshape("tiles", -1, rule.tile, rule.tile, 3)
    whole, tiles = (g("Transpose", x, perm=(0, 3, 1, 2)) for x in ("whole", tiles))
    count = g.slice(g("Shape", "tile_boxes"), 0, 1, 2)
    return Views(whole, tiles, count, rule.tile, "tile_boxes", (rows, columns))


def image_in(g: Graph, rule: ViewRule) -> Views:
    """From the input `image` (H, W, 3) uint8.

    Sizes and corners are computed in float64, in the order of `make_view`, so that they round alike.
    """
    sides = image_sides(g)
    scale = g("Min", *(
        g("Div", np.float64(goal), g(kind, sides, [0]))
        for goal, kind in ((rule.short, "ReduceMin"), (rule.long, "ReduceMax"))
    ))  # fmt: skip
    cells = g("Floor", g("Add", g("Div", g("Mul", sides, scale), np.float64(STRIDE)), np.float64(0.5)))
    cells = g.cast(g("Max", cells, np.float64(1)), np.int64)
    whole = _whole(g, rule, g("Mul", cells, np.int64(STRIDE)))
    whole = g("Unsqueeze", g("Transpose", whole, perm=(2, 0, 1)), [0])
    rows, columns = (g("Squeeze", g.slice(cells, 0, i, i + 1)) for i in (0, 1))
    corners = [_corners(g, g.slice(sides, 0, i, i + 1), rule) for i in (0, 1)]
    tiles, boxes = _tiles(g, corners, sides, rule), _boxes(g, corners, sides, rule)
    return Views(whole, tiles, rule.tiles, rule.tile, boxes, (rows, columns))


def _whole(g: Graph, rule: ViewRule, goals: str) -> str:
    """The input `image` with sides `goals` (2,) int64, uint8. What is reduced comes first, so if the other direction is
    enlarged, rounding may differ from that of `make_view`; a direction that is not enlarged stays as it is."""
    sharply = rule.enlarging == "hamming"
    reduced = g("Min", g.slice(g("Shape", "image"), 0, 0, 2), goals) if sharply else goals
    # Pillow leaves pixels beyond the edge out of its filter, as `exclude_outside` does.
    whole = g("Resize", "image", None, None, reduced, mode="linear", antialias=1, exclude_outside=1, axes=[0, 1])
    if sharply:
        for axis in (1, 0):
            old, new = (g("Squeeze", g.slice(x, 0, axis, axis + 1)) for x in (reduced, goals))
            whole = _enlarged(g, whole, axis, old, new)
    return whole


def _enlarged(g: Graph, pixels: str, axis: int, old: str, new: str) -> str:
    """`pixels` (H, W, 3) uint8 with `new` () int64 instead of `old` pixels along an axis, by `enlarging_weights`."""
    number = g.cast(g("Range", np.int64(0), new, np.int64(1)), np.float64)
    ratio = g("Div", g.cast(old, np.float64), g.cast(new, np.float64))
    place = g("Sub", g("Mul", g("Add", number, np.float64(0.5)), ratio), np.float64(0.5))
    before = g("Floor", place)
    distance = g.cast(g("Sub", place, before), np.float32)
    # sin(pi x) is the same for both pixels, so it cancels.
    window = g("Mul", g("Cos", g("Mul", distance, np.pi)), 0.46)
    far = g("Mul", distance, g("Sub", 0.54, window))
    near = g("Mul", g("Sub", 1.0, distance), g("Add", 0.54, window))
    share = g("Unsqueeze", g("Div", far, g("Add", near, far)), ([1, 2], [0, 2])[axis])
    # Beyond an edge stands its own pixel, which leaves all of the weight to that.
    first, last = np.int64(0), g("Sub", old, np.int64(1))
    places = (g("Clip", g.cast(g("Add", before, np.float64(i)), np.int64), first, last) for i in (0, 1))
    one, other = (g.cast(g("Gather", pixels, each, axis=axis), np.float32) for each in places)
    blended = g("Add", one, g("Mul", share, g("Sub", other, one)))
    return g.cast(g("Floor", g("Add", blended, 0.5)), np.uint8)


def image_sides(g: Graph) -> str:
    """(2,) float64: height and width of the input `image`."""
    return g.cast(g.slice(g("Shape", "image"), 0, 0, 2), np.float64)


def _corners(g: Graph, side: str, rule: ViewRule) -> str:
    """(sqrt(K),) float64: the starts of the tiles along a side (1,)."""
    space = g("Max", g("Sub", side, np.float64(rule.tile)), np.float64(0))
    return g("Round", g("Mul", space, tile_fractions(rule.tiles)))


def _tiles(g: Graph, corners: list[str], sides: str, rule: ViewRule) -> str:
    """(K, 3, S, S) uint8. A side that is smaller than a tile is mirrored as often as needed."""
    pixels = "image"
    for axis, starts in enumerate(corners):
        places = g("Add", g("Unsqueeze", g.cast(starts, np.int64), [1]), np.arange(rule.tile))
        side = g.cast(g.slice(sides, 0, axis, axis + 1), np.int64)
        period = g("Add", side, side)
        places = g("Mod", g.reshape(places, -1), period)
        mirrored = g("Sub", g("Sub", period, np.int64(1)), places)
        pixels = g("Gather", pixels, g("Min", places, mirrored), axis=axis)
    grid = math.isqrt(rule.tiles)
    channels = g.reshape(g("Transpose", pixels, perm=(2, 0, 1)), 3, grid, rule.tile, grid, rule.tile)
    tiles = g("Transpose", channels, perm=(1, 3, 0, 2, 4))
    return g.reshape(tiles, rule.tiles, 3, rule.tile, rule.tile)


def _boxes(g: Graph, corners: list[str], sides: str, rule: ViewRule) -> str:
    """(1, K, 4) float32."""
    grid, tile = math.isqrt(rule.tiles), np.float64(rule.tile)
    places = np.divmod(np.arange(rule.tiles), grid)
    edges = []
    for extent in (np.float64(0), tile):
        for axis, starts in enumerate(corners):
            fractions = g("Div", g("Add", starts, extent), g.slice(sides, 0, axis, axis + 1))
            edges.append(g("Unsqueeze", g("Gather", fractions, places[axis]), [1]))
    return g.cast(g("Unsqueeze", g.join(edges, 1), [0]), np.float32)
