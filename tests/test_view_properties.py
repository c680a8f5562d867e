"""Views of pictures of any size, under any rule: what holds for all of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driqa_jax.data.views import ViewRule, make_view

CHEAP = settings(max_examples=60, deadline=None, derandomize=True)
sides = st.one_of(st.integers(1, 70), st.integers(1, 420))
canvas_sides = st.integers(1, 5).map(lambda n: 32 * n)
seeds = st.none() | st.integers(0, 1000)


@st.composite
def rules(draw, kind="dual"):
    """A rule of small numbers, so that each limit is met."""
    short = draw(canvas_sides)
    canvases = draw(st.lists(st.tuples(canvas_sides, canvas_sides), min_size=1, max_size=3))
    if kind == "crop":
        tile = draw(st.integers(1, short // 32)) * 32
        return ViewRule(short, 2 * short, tile, 1, (*canvases, (tile, tile)), kind)
    tile, tiles = draw(st.integers(1, 100)), draw(st.sampled_from([1, 4, 9]))
    return ViewRule(short, draw(canvas_sides), tile, tiles, tuple(canvases))


def located(height, width):
    """Each pixel says where it is, by 16 bits of row and column in three channels of 8."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 256, columns % 256, 16 * (rows // 256) + columns // 256], axis=-1).astype(np.uint8)


def view_of(picture, rule, seed=None):
    return make_view(picture, rule, rng=None if seed is None else np.random.default_rng(seed))


@CHEAP
@given(sides, sides, rules(), seeds)
def test_the_whole_lies_within_a_canvas_and_nothing_beyond_it(height, width, rule, seed):
    view = view_of(np.full((height, width, 3), 9, np.uint8), rule, seed)
    rows, columns = view["valid"]
    canvas = view["whole"].shape[:2]
    assert canvas in rule.canvases
    assert rows % 32 == columns % 32 == 0 and 32 <= rows <= canvas[0] and 32 <= columns <= canvas[1]
    assert (view["whole"][:rows, :columns] == 9).all()  # all from the picture: no black edge is mixed in
    assert not view["whole"][rows:].any() and not view["whole"][:, columns:].any()


@CHEAP
@given(sides, sides, rules())
def test_sizes_are_bounded_by_the_rule(height, width, rule):
    rows, columns = rule.size_in(height, width)
    # To the nearest multiple of 32, which is at most half a stride more, and at least one stride.
    assert min(rows, columns) <= max(rule.short + 16, 32)
    assert max(rows, columns) <= max(rule.long + 16, 32)
    for canvas in rule.canvases:
        fitted = rule.size_in(height, width, canvas)
        assert fitted[0] <= max(canvas[0], 32) and fitted[1] <= max(canvas[1], 32)


@CHEAP
@given(sides, sides, rules(), seeds)
def test_tiles_hold_the_pixels_of_their_boxes_and_mirrored_ones_beyond_the_picture(height, width, rule, seed):
    picture = located(height, width)
    view = view_of(picture, rule, seed)
    side = rule.tile
    assert view["tiles"].shape == (rule.tiles, side, side, 3)
    mirrored = np.pad(picture, ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0)), mode="symmetric")
    for tile, box in zip(view["tiles"], view["tile_boxes"], strict=True):
        y0, x0, y1, x1 = np.round(box * np.array([height, width] * 2, np.float64)).astype(int)
        assert (y1 - y0, x1 - x0) == (side, side)
        assert 0 <= y0 <= max(height - side, 0) and 0 <= x0 <= max(width - side, 0)
        np.testing.assert_array_equal(tile, mirrored[y0:y1, x0:x1])


@CHEAP
@given(sides, sides, rules())
def test_the_grid_of_tiles_is_fixed_and_covers_both_ends_alike(height, width, rule):
    first = view_of(located(height, width), rule)
    again = view_of(np.zeros((height, width, 3), np.uint8), rule)
    np.testing.assert_array_equal(first["tile_boxes"], again["tile_boxes"])
    # What is left out above the first tile is left out below the last, to the pixel that rounding takes.
    boxes = first["tile_boxes"].astype(np.float64) * np.array([height, width] * 2)
    for low, high, length in ((boxes[:, 0], boxes[:, 2], height), (boxes[:, 1], boxes[:, 3], width)):
        if length > rule.tile:
            assert abs(low.min() - (length - high.max())) <= 1 + 1e-3


@CHEAP
@given(sides, sides, rules(), st.sampled_from([0, 1]))
def test_a_flipped_picture_has_flipped_tiles_where_the_grid_is_symmetric(height, width, rule, axis):
    picture = located(height, width)
    one, other = view_of(picture, rule), view_of(np.flip(picture, axis), rule)
    length, grid = (height, width)[axis], round(rule.tiles**0.5)
    room = length - rule.tile
    corners = [round(room * (2 * i + 1) / (2 * grid)) for i in range(grid)]
    if room < 0 or corners != [room - corner for corner in reversed(corners)]:
        return  # mirrored beyond one end alone, or halves rounded to even: the flip moves a tile by a pixel
    order = np.flip(np.arange(rule.tiles).reshape(grid, grid), axis).ravel()
    np.testing.assert_array_equal(other["tiles"], np.flip(one["tiles"][order], axis + 1))


@CHEAP
@given(sides, sides, rules())
def test_a_flipped_picture_has_a_whole_of_the_same_size_and_flipped_pixels(height, width, rule):
    picture = located(height, width)
    one, other = view_of(picture, rule), view_of(picture[:, ::-1], rule)
    np.testing.assert_array_equal(one["valid"], other["valid"])
    rows, columns = one["valid"]
    apart = one["whole"][:rows, :columns][:, ::-1].astype(int) - other["whole"][:rows, :columns]
    assert abs(apart).max() <= 1  # a resize rounds its weights at other places


@CHEAP
@given(sides, sides, rules(), st.integers(0, 1000))
def test_random_tiles_follow_from_the_generator(height, width, rule, seed):
    picture = located(height, width)
    one, other = view_of(picture, rule, seed), view_of(picture, rule, seed)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@CHEAP
@given(sides, sides, rules("crop"), seeds)
def test_a_crop_is_whole_and_tile_at_once(height, width, rule, seed):
    view = view_of(np.full((height, width, 3), 9, np.uint8), rule, seed)
    side = rule.tile
    np.testing.assert_array_equal(view["whole"][:side, :side], view["tiles"][0])
    np.testing.assert_array_equal(view["valid"], [side, side])
    np.testing.assert_array_equal(view["tile_boxes"], [[0, 0, 1, 1]])
    assert (view["tiles"] == 9).all()  # a picture smaller than the crop is made larger, not padded
    assert not view["whole"][side:].any() and not view["whole"][:, side:].any()


@CHEAP
@given(rules())
def test_a_rule_is_read_back_as_it_was_written(rule):
    assert ViewRule.from_dict(rule.to_dict()) == rule
    with pytest.raises(ValueError, match="square number"):
        dataclasses.replace(rule, tiles=rule.tiles + 1 if rule.tiles != 3 else 5)
