"""The human scale: its table fits the bank, and its figures are those of scipy on the chosen cells."""

import numpy as np
from scipy.stats import spearmanr

from benchmarks.transfer import covered, human, paired
from driqa_jax.degradations import DEGRADATIONS
from experiments.deduction.human_scale import FIDELITY, LEVELS, MEANS, UNMATCHED, agreement, degraded, drop


def test_the_table_holds_the_types_of_the_bank_in_their_order():
    with_levels = [entry.name for entry in DEGRADATIONS if entry.kadid_levels]
    assert list(MEANS) == with_levels
    assert all(len(row) == LEVELS and min(row) >= 1 and max(row) <= 5 for row in MEANS.values())
    assert set(UNMATCHED) | set(FIDELITY) <= set(MEANS)


def test_drops_span_the_range():
    values = [drop(name, level) for name in MEANS for level in range(LEVELS)]
    assert min(values) == 0 and 0.9 < max(values) <= 1
    assert drop("gaussian_blur", 0) < drop("gaussian_blur", 2) < drop("gaussian_blur", 4)


def test_agreement_is_the_rank_correlation_of_the_counted_cells():
    rng = np.random.default_rng(0)
    truth = np.array(list(MEANS.values()))
    cells = truth[None] + rng.normal(0, 0.8, (6, *truth.shape))
    for fidelity in (True, False):
        used = [i for i, n in enumerate(MEANS) if n not in UNMATCHED and (fidelity or n not in FIDELITY)]
        expected = spearmanr(cells[:, used].ravel(), np.broadcast_to(truth[used], (6, len(used), 5)).ravel()).statistic
        found = agreement(cells, fidelity, draws=50)
        assert abs(found.value - expected) < 1e-12
        assert found.interval[0] <= found.value + 0.05 and found.interval[0] < found.interval[1]


def test_cells_are_named_by_the_photograph_and_differ_from_it():
    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    first, again = (list(degraded(photo, "a")) for _ in range(2))
    assert len(first) == len(MEANS) * LEVELS
    np.testing.assert_array_equal(first, again)
    worst = first[LEVELS - 1 :: LEVELS]
    assert all(np.abs(image.astype(int) - photo).mean() > 0.5 for image in worst)


def test_a_paired_difference_of_equal_models_is_zero_and_of_a_better_one_positive():
    rng = np.random.default_rng(2)
    mos = rng.random(200)
    good, poor = mos + rng.normal(0, 0.1, 200), mos + rng.normal(0, 0.5, 200)
    assert paired([good, good], mos)[2].interval == (0.0, 0.0)
    better = paired([good, poor], mos)[2]
    assert better.value > 0 and better.interval[0] > 0


def test_the_difference_on_the_human_scale_is_paired_over_photographs():
    rng = np.random.default_rng(3)
    truth = np.array(list(MEANS.values()))
    good, poor = (truth[None] + rng.normal(0, spread, (8, *truth.shape)) for spread in (0.3, 1.5))
    for fidelity in (True, False):
        found = human([good, poor], fidelity)
        assert [each.value for each in found[:2]] == [agreement(x, fidelity).value for x in (good, poor)]
        assert found[0].interval == agreement(good, fidelity).interval
        assert found[2].value == found[0].value - found[1].value and found[2].interval[0] > 0
    assert human([good, good], True)[2].interval == (0.0, 0.0)
    assert len(human([good], True)) == 1


def test_intervals_hold_what_they_promise_on_a_set_with_another_scale():
    rng = np.random.default_rng(4)
    score = rng.uniform(0, 100, 2000)
    off = rng.normal(0, 10, 2000)
    inside = covered(score, np.full(2000, 1.645 * 10), np.exp((score + off) / 30))
    assert 0.85 < inside.mean() < 0.95
    assert covered(score, np.full(2000, 1.0), np.exp((score + off) / 30)).mean() < 0.2
