"""Views: sizes that the model can take, tiles of pictures of any size, the same view every time."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from driqa_jax.data.views import ViewRule, enlarging_weights, make_view

RULE = ViewRule()
SIZES = [(1, 1), (1, 900), (31, 17), (224, 224), (320, 480), (512, 512), (500, 333), (2000, 100), (720, 1280)]


def ramp(height, width):
    """Every pixel says where it is: red the row, green the column, both modulo 256."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = (np.arange(height) % 256)[:, None]
    picture[..., 1] = (np.arange(width) % 256)[None, :]
    return picture


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("canvas", [None, (320, 320), (512, 320)])
def test_shapes_sizes_and_padding(size, canvas):
    picture = 255 - ramp(*size) // 2  # nowhere zero, so that padding is told from picture
    view = make_view(picture, RULE, canvas)
    expected = canvas or RULE.canvas_for(*size)
    rows, columns = view["valid"]
    assert {key: (value.shape, value.dtype) for key, value in view.items()} == {
        "whole": ((*expected, 3), np.uint8),
        "valid": ((2,), np.int32),
        "tiles": ((4, 224, 224, 3), np.uint8),
        "tile_boxes": ((4, 4), np.float32),
    }
    assert rows % 32 == columns % 32 == 0
    assert 32 <= rows <= expected[0] and 32 <= columns <= expected[1]
    assert view["whole"][:rows, :columns].min() > 0
    assert not view["whole"][rows:].any() and not view["whole"][:, columns:].any()


@pytest.mark.parametrize(
    "size, canvas, valid",
    [
        ((512, 512), (320, 320), (320, 320)),
        ((100, 100), (320, 320), (320, 320)),
        ((768, 1024), (320, 512), (320, 416)),  # 426.7 -> the nearest multiple of 32
        ((1024, 768), (512, 320), (416, 320)),
        ((1080, 1920), (320, 512), (288, 512)),  # the long side binds: 320 would make 569
        ((1920, 1080), (512, 320), (512, 288)),
        ((10, 4000), (320, 512), (32, 512)),
        ((4000, 10), (512, 320), (512, 32)),
    ],
)
def test_the_canvas_and_the_size_in_it(size, canvas, valid):
    assert RULE.canvas_for(*size) == canvas
    assert RULE.size_in(*size, canvas) == valid
    np.testing.assert_array_equal(make_view(ramp(*size), RULE)["valid"], valid)


def test_a_larger_canvas_changes_nothing_but_the_padding():
    picture = ramp(512, 512)
    small, large = make_view(picture, RULE, (320, 320)), make_view(picture, RULE, (320, 512))
    np.testing.assert_array_equal(small["valid"], large["valid"])
    np.testing.assert_array_equal(small["whole"], large["whole"][:, :320])


def test_the_best_fitting_canvas_where_none_holds_the_picture():
    rule = ViewRule(canvases=((128, 256), (256, 128)))
    assert rule.canvas_for(300, 900) == (128, 256) and rule.canvas_for(900, 300) == (256, 128)
    assert rule.size_in(300, 900, (128, 256)) == (96, 256)  # 85.3 rows: the nearest multiple is 96


def test_the_whole_is_an_antialiased_reduction():
    picture = np.zeros((640, 640, 3), np.uint8)
    picture[:, ::2] = 255  # finest stripes: dropped pixels would leave them black or white
    view = make_view(picture, RULE)["whole"]
    assert np.abs(view[8:-8, 8:-8].astype(int) - 128).max() <= 3


@pytest.mark.parametrize("old, new", [(1, 32), (31, 32), (300, 320), (64, 320), (320, 320)])
def test_what_is_enlarged_is_weighted_as_pillow_weights_it(old, new):
    line = np.random.default_rng(0).integers(0, 256, (1, old), dtype=np.uint8)
    weights = enlarging_weights(old, new)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0).all() and ((weights > 0).sum(axis=1) <= 2).all()
    enlarged = np.asarray(Image.fromarray(line).resize((new, 1), Image.Resampling.HAMMING))
    np.testing.assert_allclose(enlarged[0], weights @ line[0], atol=0.51)


def test_each_direction_of_the_whole_is_enlarged_sharply_or_reduced_softly():
    sharp = dataclasses.replace(RULE, enlarging="hamming")
    picture = np.random.default_rng(0).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    rule = dataclasses.replace(sharp, short=320, long=640, canvases=((320, 640),))
    rows, columns = make_view(picture, rule)["valid"]
    assert rows < 300 and columns < 700
    soft = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(make_view(picture, rule)["whole"][:rows, :columns], soft)
    mixed = make_view(picture[:31, :], sharp)["whole"]  # 31 x 700 to 32 x 512
    across = Image.fromarray(picture[:31, :]).resize((512, 31), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(mixed[:32, :512], across.resize((512, 32), Image.Resampling.HAMMING))
    picture = picture[:, :330]  # 300 x 330 to 320 x 352
    across = Image.fromarray(picture).resize((352, 300), Image.Resampling.HAMMING)
    both = across.resize((352, 320), Image.Resampling.HAMMING)
    np.testing.assert_array_equal(make_view(picture, sharp)["whole"][:320, :352], both)
    picture = picture[:, :298]  # 300 x 298 to 320 x 320
    assert picture.std() - make_view(picture, sharp)["whole"][:320, :320].std() < 0.6 * (
        picture.std() - make_view(picture, RULE)["whole"][:320, :320].std()
    )


def test_a_rule_that_enlarges_as_before_is_stored_as_before():
    assert "enlarging" not in RULE.to_dict() and ViewRule.from_dict(RULE.to_dict()) == RULE
    sharp = dataclasses.replace(RULE, enlarging="hamming")
    assert ViewRule.from_dict(sharp.to_dict()) == sharp


def test_an_unknown_filter_is_refused():
    with pytest.raises(ValueError, match="enlarging must be one of bilinear, hamming, got 'cubic'"):
        ViewRule(enlarging="cubic")


@pytest.mark.parametrize("size", [(3000, 2400), (2001, 3333)])
def test_two_threads_make_the_view_of_a_large_picture_as_one_does(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    view = make_view(picture, RULE)
    rows, columns = view["valid"]
    whole = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(view["whole"][:rows, :columns], whole)


def test_tiles_on_the_grid_lie_where_the_boxes_say():
    picture = ramp(624, 1024)
    view = make_view(picture, RULE)
    corners = [(100, 200), (100, 600), (300, 200), (300, 600)]  # (624-224, 1024-224) * (1/4, 3/4)
    for tile, box, (y, x) in zip(view["tiles"], view["tile_boxes"], corners, strict=True):
        np.testing.assert_array_equal(tile, picture[y : y + 224, x : x + 224])
        np.testing.assert_allclose(box, [y / 624, x / 1024, (y + 224) / 624, (x + 224) / 1024], rtol=1e-6)


def test_one_tile_is_the_centre_and_nine_a_grid_of_three():
    picture = ramp(324, 424)
    one = make_view(picture, dataclasses.replace(RULE, tiles=1))
    np.testing.assert_array_equal(one["tiles"][0], picture[50:274, 100:324])
    nine = make_view(picture, dataclasses.replace(RULE, tiles=9))["tile_boxes"]
    np.testing.assert_allclose(nine[4], one["tile_boxes"][0])
    assert len(np.unique(nine[:, 0])) == len(np.unique(nine[:, 1])) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (223, 224), (100, 60)])
def test_tiles_of_a_small_picture_continue_it_as_a_mirror_does(size):
    picture = ramp(*size)
    view = make_view(picture, RULE)
    extended = np.pad(picture, [(0, max(224 - side, 0)) for side in size] + [(0, 0)], mode="symmetric")
    for tile, box in zip(view["tiles"], view["tile_boxes"], strict=True):
        y, x = round(box[0] * size[0]), round(box[1] * size[1])
        np.testing.assert_array_equal(tile, extended[y : y + 224, x : x + 224])
        for axis in range(2):
            assert (box[axis + 2] > 1) == (size[axis] < 224)


def test_the_same_view_every_time_and_random_tiles_by_the_generator_alone():
    picture = ramp(600, 700)
    for seed in (None, 5):
        views = [make_view(picture, RULE, rng=seed and np.random.default_rng(seed)) for _ in range(2)]
        for key in views[0]:
            np.testing.assert_array_equal(views[0][key], views[1][key])
    first, other = (make_view(picture, RULE, rng=np.random.default_rng(seed)) for seed in (5, 6))
    assert not np.array_equal(first["tile_boxes"], other["tile_boxes"])
    np.testing.assert_array_equal(first["whole"], other["whole"])


def test_random_tiles_reach_every_offset_and_no_further():
    picture, rule, rng = ramp(226, 225), dataclasses.replace(RULE, tiles=1), np.random.default_rng(0)
    boxes = [make_view(picture, rule, rng=rng)["tile_boxes"][0] for _ in range(60)]
    places = {(round(box[0] * 226), round(box[1] * 225)) for box in boxes}
    assert places == {(y, x) for y in range(3) for x in range(2)}


def test_the_rule_goes_through_plain_values():
    rule = ViewRule(short=256, tiles=9, canvases=((256, 512),))
    assert ViewRule.from_dict(rule.to_dict()) == rule
    with pytest.raises(TypeError, match="sides"):
        ViewRule.from_dict({"sides": 3})


@pytest.mark.parametrize(
    "change",
    [{"short": 300}, {"long": 0}, {"canvases": ()}, {"canvases": ((320, 100),)}, {"tiles": 3}, {"tile": 0}],
)
def test_rules_that_cannot_be_followed(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ViewRule(**change)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3)),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_by_shape(picture):
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        make_view(picture, RULE)


@pytest.mark.parametrize("size", [(500, 333), (31, 17), (1, 900)])
def test_an_image_gives_the_view_of_its_array(size):
    picture = ramp(*size)
    for rng in (None, 3):
        views = [
            make_view(form, RULE, rng=rng and np.random.default_rng(rng))
            for form in (picture, Image.fromarray(picture))
        ]
        for key in views[0]:
            np.testing.assert_array_equal(views[0][key], views[1][key])
    with pytest.raises(ValueError, match="mode RGB"):
        make_view(Image.new("L", (4, 4)), RULE)


CROP = ViewRule(short=96, tile=64, tiles=1, canvases=((64, 64),), kind="crop")


@pytest.mark.parametrize("size", [(100, 150), (300, 200), (40, 60), (96, 96)])
def test_a_crop_shows_both_branches_one_tile_of_the_picture_brought_to_the_short_side(size):
    height, width = size
    scale = 96 / min(size)
    sides = round(width * scale), round(height * scale)
    small = Image.fromarray(ramp(*size)).resize(sides, Image.Resampling.BILINEAR)
    view = make_view(ramp(*size), CROP)
    np.testing.assert_array_equal(view["whole"], view["tiles"][0])
    np.testing.assert_array_equal(view["valid"], [64, 64])
    np.testing.assert_array_equal(view["tile_boxes"], [[0, 0, 1, 1]])
    y, x = (round((side - 64) / 2) for side in (small.height, small.width))
    np.testing.assert_array_equal(view["whole"], np.asarray(small)[y : y + 64, x : x + 64])
    again, other = (make_view(ramp(*size), CROP, rng=np.random.default_rng(seed)) for seed in (0, 1))
    assert (again["whole"] != other["whole"]).any() and (again["whole"] == again["tiles"][0]).all()


def test_a_crop_on_a_larger_canvas_lies_at_its_top_left():
    view = make_view(ramp(100, 100), CROP, (96, 128))
    assert view["whole"].shape == (96, 128, 3) and not view["whole"][64:].any() and not view["whole"][:, 64:].any()
    np.testing.assert_array_equal(view["whole"][:64, :64], view["tiles"][0])
    with pytest.raises(ValueError, match="does not hold a crop of 64"):
        make_view(ramp(100, 100), CROP, (32, 64))


@pytest.mark.parametrize("changes", [{"kind": "both"}, {"tiles": 4}, {"tile": 60}, {"tile": 128}])
def test_a_crop_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="kind must be one of dual, crop, got|a crop is one tile"):
        dataclasses.replace(CROP, **changes)
