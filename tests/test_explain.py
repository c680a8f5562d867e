"""An explanation is of the very score that the scorer gives, and the same for the same picture."""

import dataclasses
import io
import itertools
import json

import jax
import numpy as np
import pytest
from fake_model import picture
from PIL import Image
from tiny_scorer import METADATA, tiny_scorer

import driqa_jax
from driqa_jax.degradations import NAMES, apply
from driqa_jax.errors import UnreadableImage
from driqa_jax.inference.explain import Explainer
from driqa_jax.inference.labels import label
from driqa_jax.inference.tiling import through_tiles, tile_starts
from driqa_jax.reports.colormap import color_stops, colors, map_words, overlay
from driqa_jax.reports.explanation_png import sheet


@pytest.fixture(scope="module")
def scorer():
    return tiny_scorer()


@pytest.fixture(scope="module")
def image():
    return picture(70, 90, 1)


@pytest.fixture(scope="module")
def found(scorer, image):
    return scorer.explain(image, "some.jpg")


def test_the_weighted_map_gives_the_score(scorer, image, found):
    assert found.score == scorer(image) and found.name == "some.jpg" and found.size == (70, 90)
    # 70x90 is brought to 64x96 at most, in whole cells of 32.
    assert found.quality_map.shape == found.weights.shape == (2, 3)
    assert found.weights.sum() == pytest.approx(1, abs=1e-6) and (found.weights > 0).all()
    # Before calibration, the weighted mean of the cells is the prediction.
    (prediction,) = scorer.predict([image])
    share = found.quality_map.astype(float) / 100
    assert share.min() > 0.01 and share.max() < 0.99
    uncalibrated = 0.1 + 0.7 * np.log(share / (1 - share))
    assert (found.weights * uncalibrated).sum() == pytest.approx(prediction, abs=1e-4)


def test_all_degradations_are_listed_most_probable_first(found):
    assert sorted(one.name for one in found.degradations) == sorted(METADATA["degradations"])
    probabilities = [one.probability for one in found.degradations]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < min(probabilities) < max(probabilities) < 1
    middle = probabilities[1]
    assert found.named(middle) == found.degradations[:2] and found.named(1.0) == ()
    assert {one.label for one in found.degradations} == {"motion blur", "noise", "never heard of"}
    assert len({label(name) for name in NAMES}) == len(NAMES) and all("_" not in label(name) for name in NAMES)


def test_equal_images_give_equal_bytes_and_plain_json(scorer, image, found, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    for same in (path, Image.fromarray(image), path.read_bytes(), jax.numpy.asarray(image)):
        again = scorer.explain(same)
        for name in ("picture", "restored", "quality_map", "weights", "d", "q"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
            assert type(getattr(again, name)) is np.ndarray
    assert scorer.explain(path).name == str(path)
    said = found.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["score"] == found.score and np.shape(said["quality_map"]) == (2, 3)
    assert [one["name"] for one in said["degradations"]] == [one.name for one in found.degradations]


def test_a_user_scale_does_not_change_explanations(scorer, image, found):
    scores = np.linspace(0, 100, 20)
    own = scorer.calibrate(scores, 1 + scores / 25, scale=(1, 5))
    assert own(image) <= 5 < found.score == own.explain(image).score
    assert Explainer(own)._scorer.own_scale is None and own.own_scale is not None


def test_features_are_rows_of_d_and_q_in_order(scorer, image, found):
    other = picture(64, 64, 2)
    features = scorer.features([other, image, other])
    assert features["d"].shape == features["q"].shape == (3, 32)
    for key in ("d", "q"):
        np.testing.assert_array_equal(features[key][1], getattr(found, key))
        np.testing.assert_array_equal(features[key][0], features[key][2])
        assert np.abs(features[key][0] - features[key][1]).max() > 1e-3
        np.testing.assert_array_equal(scorer.features(image)[key], features[key][1:2])
    with pytest.raises(UnreadableImage, match="item 1"):
        scorer.features([image, b"nothing"])
    with pytest.raises(ValueError, match="at least one image"):
        scorer.features([])


def test_one_tile_is_restored_as_the_model_does_and_one_program_does_for_all_sizes(scorer):
    small = picture(32, 32, 3)
    seen = scorer.explain(small)
    direct = scorer.model.apply({"params": scorer.params}, small[None] / 255.0, seen.d[None], method="restore")
    np.testing.assert_allclose(seen.restored, np.clip(direct[0], 0, 1) * 255, atol=0.51)
    assert np.abs(seen.restored.astype(int) - small).max() > 3
    for size in ((20, 30), (100, 41), (64, 64)):
        assert scorer.explain(picture(*size, 4)).restored.shape == (*size, 3)
    assert scorer.executor.restoring._cache_size() == 1
    assert scorer.executor.explaining._cache_size() <= 2


def test_a_large_image_is_reduced_only_for_display(scorer, image, found):
    small = scorer.explain(image, shown_pixels=2000)
    assert small.reduced and not found.reduced
    height, width = small.picture.shape[:2]
    assert 1800 < height * width <= 2000 and width / height == pytest.approx(90 / 70, abs=0.03)
    assert small.restored.shape == small.picture.shape and small.size == (70, 90)
    np.testing.assert_array_equal(small.quality_map, found.quality_map)
    assert small.score == found.score and small.degradations == found.degradations
    assert small.to_dict()["shown"] == {"height": height, "width": width, "reduced": True}
    assert scorer.explain(image, restore=False).restored is None


def test_errors_name_the_unreadable_image(scorer, tmp_path):
    path = tmp_path / "b.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"b\.jpg: not a picture"):
        scorer.explain(path)


@pytest.mark.parametrize("size", [(1, 1), (9, 50), (16, 16), (40, 23)])
def test_identity_tiles_reproduce_the_image(size):
    shapes, image = set(), picture(*size, 5)

    def run(tiles):
        shapes.add(tiles.shape)
        return tiles / 255.0

    np.testing.assert_array_equal(through_tiles(image, run, tile=16, batch=3), image)
    assert shapes == {(3, 16, 16, 3)}


def test_differing_tiles_blend_without_seams():
    values = itertools.cycle((0.1, 0.1, 0.9, 0.9))

    def run(tiles):  # each tile has a brightness of its own
        return np.stack([np.full(tile.shape, next(values), np.float32) for tile in tiles])

    blended = through_tiles(np.zeros((64, 300, 3), np.uint8), run, tile=64, batch=1).astype(int)
    assert np.ptp(blended) > 100 and np.abs(np.diff(blended, axis=1)).max() < 12


def test_tiles_cover_a_side_evenly():
    for side in (224, 225, 400, 1000):
        starts = tile_starts(side, 224)
        assert starts[0] == 0 and starts[-1] == side - 224
        assert all(224 - (b - a) >= 64 for a, b in zip(starts, starts[1:], strict=False))


def test_colors_rise_in_lightness_and_the_overlay_shows_the_photo(found):
    luma = colors(np.arange(0, 101, 10)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma) > 0).all()
    assert len(color_stops(5)) == 5 and all(len(stop) == 7 and stop[0] == "#" for stop in color_stops(5))
    over = overlay(found)
    assert over.shape == found.picture.shape and over.dtype == np.uint8
    gray = np.asarray(Image.fromarray(found.picture).convert("L"), float)
    assert np.corrcoef(over.mean(axis=2).ravel(), gray.ravel())[0, 1] > 0.5


def mapped(found, cells):
    """The explanation with another map, over a photo of one gray."""
    gray = np.full((40, 60, 3), 100, np.uint8)
    return dataclasses.replace(
        found, quality_map=np.array(cells, np.float32), picture=gray, size=(40, 60), restored=gray
    )


def test_a_narrow_map_is_drawn_on_its_own_scale_and_an_even_one_in_one_color(found):
    ends = [[colors(share, 100.0)] for share in (0, 100)]
    narrow, wide, even = (mapped(found, [[low, low], [high, high]]) for low, high in ((40, 44), (40, 95), (40, 42.9)))
    np.testing.assert_array_equal(overlay(narrow)[[0, -1], :1], ends)
    np.testing.assert_array_equal(overlay(wide)[[0, -1], 0], colors(np.array([40, 95]), 100.0))
    assert len(np.unique(overlay(even).reshape(-1, 3), axis=0)) == 1 and not (overlay(even)[0, 0] == ends[0][0]).all()
    assert [one.even for one in (narrow, wide, even)] == [False, False, True]
    assert mapped(found, [[40, 43], [40, 40]]).even is False  # 3 points are a difference
    assert [map_words(one) for one in (narrow, even)] == [
        "Quality map, from 40.0 to 44.0",
        "Quality map: even, from 40.0 to 42.9",
    ]
    said = [one.to_dict()["map"] for one in (narrow, wide, even)]
    assert said[0] == {"lowest": 40.0, "highest": 44.0, "scale": [40.0, 44.0], "even": False, "resolution": 3.0}
    assert said[1]["scale"] == [0.0, 100.0] and said[2]["even"]
    assert len({sheet(one) for one in (narrow, wide, even)}) == 3


def test_a_sheet_is_deterministic_and_accepts_any_name(scorer, image, found):
    first = sheet(found, threshold=0.0)
    assert first == sheet(found, threshold=0.0) != sheet(found, threshold=1.0)
    with Image.open(io.BytesIO(first)) as drawn:
        assert drawn.format == "PNG" and set(drawn.info) <= {"dpi"} and drawn.width > 3 * 180
    strange = scorer.explain(image, "$\\frac{1}$ \u65e5\u672c \udcff\n" + "long" * 99 + ".jpg")
    assert sheet(strange)
    with pytest.raises(ValueError, match="restore=True"):
        sheet(scorer.explain(image, restore=False))


@pytest.mark.long
def test_the_bundled_model_explains_a_photo(root):
    scorer = driqa_jax.load()
    path = root / "examples" / "photos" / "nyc_shake.jpg"
    found = scorer.explain(path)
    assert found.score == scorer(path) and found.restored is None
    assert found.quality_map.shape == (12, 12) and found.named()
    assert sorted(one.name for one in found.degradations) == sorted(scorer.degradations)
    assert found.faults()[0].group == "blur" and found.degradations[0].visibility > 0.5


@pytest.mark.long
def test_the_model_of_0_5_explains_and_restores_a_photo(root):
    scorer = driqa_jax.load("lite-0.5")
    path = root / "examples" / "photos" / "dog_blur.jpg"
    found = scorer.explain(path)
    assert found.score == scorer(path)
    assert (found.weights * found.quality_map).sum() == pytest.approx(found.score, abs=1)
    assert found.quality_map.shape == (10, 10) and len(found.degradations) == 34
    # Out of focus: what the restorer gives has more of the fine detail.
    with Image.open(root / "examples" / "photos" / "dog.jpg") as photo:
        sharp = np.asarray(photo.convert("RGB"), np.float32) / 255
    blurred = np.rint(255 * np.asarray(apply("lens_blur", jax.random.key(0), sharp, 0.3))).astype(np.uint8)
    found = scorer.explain(blurred)
    detail = [np.abs(np.diff(one.astype(int), axis=1)).mean() for one in (found.picture, found.restored)]
    assert detail[1] > 1.2 * detail[0]
