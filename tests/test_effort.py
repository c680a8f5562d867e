"""Efforts are stated rules; the uncertainty rises with the spread over tiles; one's own scale keeps the order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_model import METADATA, FakeModel, fake_params, fake_scorer, picture

from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.inference.effort import EFFORTS, look
from driqa_jax.inference.program import PREDICTIONS, make_stages, mirrored
from driqa_jax.inference.provenance import describe
from driqa_jax.inference.scorer import Scorer


def stacked(*views):
    return {key: jnp.stack([view[key] for view in views]) for key in views[0]}


def predictions(views, mirror):
    (stage,) = make_stages(FakeModel(), mirror, cpu=True)
    return np.asarray(jax.jit(stage.function)(fake_params(), views)[PREDICTIONS])


def test_each_effort_has_its_view_rule():
    rule = ViewRule()
    looks = {effort: look(rule, effort) for effort in EFFORTS}
    sizes = {effort: (seen.rule.short, seen.rule.tile, seen.rule.tiles) for effort, seen in looks.items()}
    assert sizes == {"fast": (320, 224, 1), "default": (320, 224, 4), "accurate": (320, 224, 9)}
    assert [looks[effort].mirror for effort in EFFORTS] == [False, False, True]
    assert looks["default"].rule.canvases == (*rule.canvases, (320, 416), (416, 320))
    small = ViewRule(short=64, long=64, tile=32, tiles=1, canvases=((64, 64),))
    assert look(small, "default").rule == small and look(small, "fast").rule.tile == 32
    with pytest.raises(ValueError, match="fast, default, accurate"):
        look(rule, "slow")


@pytest.mark.parametrize("size", [(384, 512), (400, 300), (600, 800)])
def test_a_photo_of_4_3_gets_a_canvas_without_padding_and_the_same_pixels(size):
    plain, more = ViewRule(), look(ViewRule(), "default").rule
    image = picture(*size, 1)
    before, after = make_view(image, plain), make_view(image, more)
    rows, columns = after["valid"]
    assert after["whole"].shape == (rows, columns, 3)
    np.testing.assert_array_equal(before["whole"][:rows, :columns], after["whole"])
    np.testing.assert_array_equal(before["valid"], after["valid"])


def test_the_program_returns_the_mos_and_per_tile_mos():
    view = stacked(make_view(picture(300, 500, 2), ViewRule()))
    found = predictions(view, mirror=False)
    assert found.shape == (1, 5)
    whole, tiles = view["whole"] / 255.0, view["tiles"] / 255.0
    apply = jax.jit(lambda *seen: FakeModel().apply({"params": fake_params()}, *seen)[0][0])
    np.testing.assert_allclose(found[0, 0], apply(whole, view["valid"], tiles, view["tile_boxes"]), atol=1e-6)
    for k in range(4):
        one = apply(whole, view["valid"], tiles[:, [k]], view["tile_boxes"][:, [k]])
        np.testing.assert_allclose(found[0, 1 + k], one, atol=1e-6)


def test_the_mirrored_view_is_the_view_of_the_mirrored_photo():
    rule = ViewRule(tile=96)
    image = picture(256, 380, 3)  # on a canvas with padding, on a grid that mirrors onto itself
    view, other = (make_view(np.ascontiguousarray(photo), rule) for photo in (image, image[:, ::-1]))
    assert view["valid"][1] < view["whole"].shape[1]
    keys = "whole", "valid", "tiles", "tile_boxes"
    found = jax.jit(mirrored)(*(view[key][None] for key in keys))
    for key, value in zip(keys, found, strict=True):
        # Tiles keep their order, and the mirrored photo counts them from the other side.
        expected = other[key][[1, 0, 3, 2]] if key.startswith("tile") else other[key]
        np.testing.assert_allclose(np.asarray(value[0], float), expected, atol=1 if key == "whole" else 1e-6)


def test_accurate_averages_the_image_and_its_mirror_image():
    view = stacked(make_view(picture(256, 380, 3), ViewRule(tile=96)))
    once, both = (predictions(view, mirror) for mirror in (False, True))
    assert once.shape == (1, 5) and both.shape == (1, 9)
    np.testing.assert_allclose(both[0, 1:5], once[0, 1:], atol=1e-6)
    assert both[0, 0] != once[0, 0] and abs(both[0, 0] - once[0, 0]) < np.abs(both[0, 5:] - once[0, 1:]).max()


def test_the_uncertainty_grows_with_the_spread_of_per_tile_scores():
    scorer = fake_scorer()
    torn = picture(400, 400, 1)
    torn[:200] = torn[:200] // 4
    (result,) = scorer.stream([torn])
    found = np.asarray(scorer.executor.predictions(stacked(make_view(torn, scorer.rule))))[0]
    alone = np.clip(100 * scorer.calibration(found[1:].astype(np.float64)), 0, 100)
    mean = sum(alone) / 4
    deviation = (sum((x - mean) ** 2 for x in alone) / 3) ** 0.5
    assert deviation > 0.5
    assert result.uncertainty == round(1.5 * (deviation + 2.0), 2)
    params, one = fake_params(), {**METADATA, "view": {"tiles": 1}}
    assert next(Scorer(FakeModel(), params, one).stream([torn])).uncertainty == 3.0  # one tile has no spread
    without = {**METADATA, "interval": {}}
    assert next(Scorer(FakeModel(), params, without).stream([torn])).uncertainty is None


def test_the_effort_is_part_of_the_provenance():
    described = [describe(fake_scorer(effort=effort)) for effort in ("fast", "default")]
    assert [made["effort"] for made in described] == ["fast", "default"]
    assert described[0]["view"] != described[1]["view"]


def test_scores_on_a_user_scale():
    scorer = fake_scorer()
    images = [picture(60, 60 + seed, seed) // (1 + seed % 4) for seed in range(16)]
    scores = scorer(images)
    assert len(set(scores)) > 10
    ratings = np.clip(1 + 4 * ((scores - scores.min()) / np.ptp(scores)) ** 1.5, 1, 5)
    mine = scorer.calibrate(scores, ratings, scale=(1, 5))
    own = mine(images)
    assert np.abs(own - ratings).mean() < 0.25 and own.min() >= 1 and own.max() <= 5
    assert (np.diff(own[np.argsort(scores)]) >= 0).all()
    for found, plain in zip(mine.stream(images), scorer.stream(images), strict=True):
        ends = mine.own_scale(plain.score + plain.uncertainty * np.array([-1.0, 1.0]))
        assert abs(found.uncertainty - np.abs(ends - found.score).max()) < 0.02
    np.testing.assert_array_equal(scorer(images[:2]), scores[:2])  # the first one is as it was
    assert describe(mine)["own_scale"]["high"] == 5 and "own_scale" not in describe(scorer)
    (result,) = mine.stream(images[:1])
    assert result.uncertainty < 4
    for bad, said in ((ratings[::-1] * 0 + 3, "rise"), (-ratings + 6, "rise"), (ratings * 2, "outside")):
        with pytest.raises(ValueError, match=said):
            scorer.calibrate(scores, bad, scale=(1, 5))
    with pytest.raises(ValueError, match="already"):
        mine.calibrate(scores, ratings)
