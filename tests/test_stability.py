"""The benchmark of stability: what its pairs are, and what its figures say of a score that is right, blind or wrong."""

import numpy as np
import pytest

from benchmarks import stability
from benchmarks.stability import CHANGE, ORDER, Scored
from experiments.deduction.human_scale import MEANS, UNMATCHED

TRUTH = np.array(list(MEANS.values()))


def values(rows):
    return {case: (count, figure.value) for _, case, count, figure in rows}


def test_changes_are_medians_and_orders_are_shares_over_photographs():
    scored = [Scored(CHANGE, "mirror", name, 50.0, 50.0 + by) for name, by in (("a", -1), ("b", 2), ("c", 40))]
    scored += [Scored(ORDER, "halo", "a", 60.0, worse) for worse in (50.0, 70.0)]
    scored += [Scored(ORDER, "halo", "b", 60.0, worse) for worse in (50.0, 40.0, 30.0, 20.0)]
    scored += [Scored(ORDER, "blind", name, 60.0, 60.0) for name in "ab"]
    found = values(stability.rows(scored))
    assert found == {"mirror": (3, 2.0), "halo": (2, 0.75), "blind": (2, 0.0)}


def test_the_human_means_are_ordered_by_themselves_and_by_nothing_else():
    cells = np.stack([TRUTH, 3 * TRUTH + 7])
    for given, expected in ((cells, 1.0), (-cells, 0.0), (np.zeros_like(cells), 0.0)):
        assert [figure.value for *_, figure in stability.human_rows(given)] == [expected, expected]


def test_the_lowest_type_is_named_and_unmatched_types_do_not_count():
    cells = np.stack([TRUTH, TRUTH])
    for name in ("jitter", *UNMATCHED):
        cells[:, list(MEANS).index(name)] *= -1
    every, lowest = stability.human_rows(cells)
    assert 0.8 < every[-1].value < 1
    assert lowest[1] == "levels of the lowest type, jitter" and lowest[-1].value == 0


def test_pairs_are_equal_for_equal_photographs_and_keep_to_what_they_claim(monkeypatch):
    monkeypatch.setattr(stability, "worse", lambda fault, photo, severity, seed: photo // 2 + np.uint8(seed % 9))
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    first, again = (list(stability.pairs(photo, "a")) for _ in range(2))
    for pair, same in zip(first, again, strict=True):
        assert pair.measure == same.measure and pair.case == same.case
        np.testing.assert_array_equal(pair.second, same.second)
        if pair.measure == ORDER:
            assert pair.first.shape == pair.second.shape and (pair.first != pair.second).any()
    shifted = next(pair for pair in first if pair.case.startswith("shift"))
    np.testing.assert_array_equal(shifted.first[8:, 8:], shifted.second[:-8, :-8])
    bokeh = next(pair for pair in first if pair.case.startswith("bokeh"))
    np.testing.assert_array_equal(bokeh.first[40:56, 60:68], photo[40:56, 60:68])
    np.testing.assert_array_equal(bokeh.second[:8, :8], photo[:8, :8])


def test_any_seed_and_severity_give_a_worse_photograph():
    photo = np.full((32, 32, 3), 90, np.uint8)
    mild, strong = (np.asarray(stability.worse("overexposed", photo, x, np.uint32(2**32 - 1))) for x in (0.5, 1.0))
    assert mild.dtype == np.uint8 and photo.mean() < mild.mean() < strong.mean()


@pytest.mark.parametrize("side", [500, 900])
def test_a_photograph_is_beside_smaller_ones_and_is_enlarged_only_if_it_is_small(monkeypatch, side):
    monkeypatch.setattr(stability, "LARGE", 800.0**2)
    made = list(stability.sizes(np.full((side, side, 3), 90, np.uint8), 0.1))
    assert any("enlarged" in pair.case for pair in made) == (side == 500)
    for pair in made:
        assert str(min(pair.second.shape[:2])) == pair.case.split()[-1] and pair.first.size > pair.second.size
