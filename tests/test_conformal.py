"""Intervals hold what they promise on pictures they were not fitted on, and survive JSON."""

import json
import math

import numpy as np
import pytest

from driqa_jax.data.views import ViewRule
from driqa_jax.evaluation.figures import draw_coverage
from driqa_jax.evaluation.report import coverage, coverage_line
from driqa_jax.inference.conformal import FULL, LEAST_FLOOR, Evidence, Interval, evidence, fit_interval, tile_spread
from driqa_jax.inference.effort import EFFORTS, look


def drawn(n, seed, scale=0.15):
    """Scores whose error really grows with the spread of their tiles."""
    rng = np.random.default_rng(seed)
    spread = rng.gamma(2.0, 0.02, n)
    score = rng.uniform(0.2, 0.9, n)
    return score, spread, score + rng.normal(size=n) * (0.2 * scale + spread)


def test_the_factor_is_the_conformal_quantile():
    score, spread, mos = drawn(99, 0)
    found = fit_interval(score, spread, mos, 0.8)
    assert found.floor == max(np.median(spread), LEAST_FLOOR)
    ratio = np.abs(mos - score) / (spread + found.floor)
    assert found.factor == np.quantile(ratio, math.ceil(100 * 0.8) / 99, method="inverted_cdf")
    np.testing.assert_allclose(found(spread), found.factor * (spread + found.floor))


def test_coverage_of_unseen_images_is_90_percent_on_average():
    held = []
    for seed in range(60):
        interval = fit_interval(*drawn(300, seed))
        score, spread, mos = drawn(1000, 1000 + seed)
        held.append(coverage(score, interval(spread), mos, 0.9)["held"])
    assert abs(np.mean(held) - 0.9) < 0.01


def test_the_interval_adapts_to_errors_that_grow_with_the_spread():
    interval = fit_interval(*drawn(4000, 1))
    score, spread, mos = drawn(20_000, 2)
    found = coverage(score, interval(spread), mos, 0.9)
    widths = [group["half_width"] for group in found["groups"]]
    assert widths == sorted(widths) and widths[-1] > 2 * widths[0]
    assert all(abs(group["held"] - 0.9) < 0.05 for group in found["groups"])
    assert sum(group["n"] for group in found["groups"]) == 20_000


def test_coverage_counts_scores_inside_the_interval():
    score = np.full(10, 0.5)
    mos = 0.5 + np.arange(10) / 100
    found = coverage(score, np.full(10, 0.0401), mos, 0.9)
    assert found["held"] == 0.5 and found["half_width"] == pytest.approx(0.0401)
    assert coverage_line(found) == (
        "intervals that should hold 90% of the MOS hold 50.0%; half of their width is 4.0 points on average"
    )
    (axes,) = draw_coverage(found, "a title").axes
    assert axes.get_title() == "a title"


def test_the_spread_is_over_tiles():
    alone = np.array([[0.1, 0.2, 0.6], [0.4, 0.4, 0.4]])
    np.testing.assert_allclose(tile_spread(alone), [np.std(alone[0], ddof=1), 0.0], atol=1e-15)
    np.testing.assert_array_equal(tile_spread(alone[:, :1]), [0.0, 0.0])


def test_json_round_trip_is_exact():
    interval = Interval(0.9, 1 / 3, 0.07)
    assert Interval.from_dict(json.loads(json.dumps(interval.to_dict()))) == interval


@pytest.mark.parametrize(
    "values",
    [
        {"level": 1.0, "factor": 1.0, "floor": 0.1},
        {"level": 0.9, "factor": 0.0, "floor": 0.1},
        {"level": 0.9, "factor": float("nan"), "floor": 0.1},
        {"level": 0.9, "factor": "1", "floor": 0.1},
        {"level": 0.9, "width": 1.0},
    ],
)
def test_invalid_intervals_are_refused(values):
    with pytest.raises(ValueError, match="interval"):
        Interval.from_dict(values)


def test_a_fit_refuses_too_few_images_and_mismatched_shapes():
    score, spread, mos = drawn(29, 0)
    with pytest.raises(ValueError, match="29 images are too few"):
        fit_interval(score, spread, mos)
    with pytest.raises(ValueError, match=r"\(N,\)"):
        fit_interval(score, spread[:5], mos)
    with pytest.raises(ValueError, match="too few for an interval that holds 99%"):
        fit_interval(*drawn(60, 0), level=0.99)
    with pytest.raises(ValueError, match="finite"):
        fit_interval(score, np.full(29, np.nan), mos)


CROP = ViewRule(short=256, tile=224, tiles=1, canvases=((224, 224),), kind="crop")
RULES = {effort: look(ViewRule(), effort).rule for effort in EFFORTS} | {"one tile": ViewRule(tiles=1), "crop": CROP}


def half(height, width, rule, spread=0.0):
    return float(Interval(0.9, 2.0, 0.02)(spread, evidence(height, width, rule)))


@pytest.mark.parametrize(
    "size", [(512, 384), (384, 512), (512, 512), (500, 500), (768, 512), (1080, 1920), (3000, 4000)]
)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_at_normal_sizes_the_interval_depends_only_on_the_spread(size, rule):
    assert evidence(*size, rule) == FULL
    assert half(*size, rule, 0.03) == pytest.approx(2.0 * (0.03 + 0.02))


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (9, 16), (4, 1)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_interval_grows_as_the_image_shrinks(rule, shape):
    scale = 1 / max(shape)
    sides = range(1, 800)
    widths = [half(*(max(round(side * part * scale), 1) for part in shape), rule) for side in sides]
    assert (np.diff(widths) <= 1e-12).all()
    assert widths[0] == 1.0 and widths[-1] < 0.25


def test_images_below_the_tile_size_have_wider_intervals_than_disagreeing_tiles():
    rule = RULES["default"]
    disagreeing = half(512, 512, rule, 3 * 0.02)  # a spread of three floors
    assert half(224, 224, rule) == pytest.approx(disagreeing)
    assert half(96, 96, rule) == pytest.approx(disagreeing * 224 / 96)
    assert half(96, 300, rule) > disagreeing > half(300, 300, rule) > half(512, 512, rule)


def test_a_fit_on_small_images_covers_small_images():
    rng, held = np.random.default_rng(0), []
    for seed in range(60):
        seen = Evidence(rng.uniform(0, 1, 300), rng.uniform(0.1, 1, 300))
        score, spread, mos = drawn(300, seed)
        interval = fit_interval(score, spread, mos, seen=seen)
        seen = Evidence(rng.uniform(0, 1, 1000), rng.uniform(0.1, 1, 1000))
        score, spread, mos = drawn(1000, 1000 + seed)
        held.append(coverage(score, interval(spread, seen), mos, 0.9)["held"])
    assert abs(np.mean(held) - 0.9) < 0.01
