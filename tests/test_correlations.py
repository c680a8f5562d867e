"""SRCC, KRCC, PLCC and RMSE against scipy, numpy and numbers worked by hand; reports made of them."""

import io
import json

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from driqa_jax.evaluation import correlations
from driqa_jax.evaluation.report import METRICS, Report, make_report
from driqa_jax.evaluation.tables import to_terminal

ALL = [correlations.srcc, correlations.krcc, correlations.plcc, correlations.plcc_fitted, correlations.rmse]


def tied(seed, n=200):
    rng = np.random.default_rng(seed)
    mos = rng.integers(0, 12, n) / 11
    return np.round(mos + rng.normal(0, 0.2, n), 1), mos


@pytest.mark.parametrize("seed", range(3))
def test_rank_and_linear_correlations_equal_scipy_with_ties(seed):
    x, y = tied(seed)
    assert correlations.srcc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert correlations.krcc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert correlations.plcc(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert correlations.rmse(x, y) == pytest.approx(np.linalg.norm(x - y) / np.sqrt(len(x)), abs=1e-12)


def test_hand_example():
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: differences 0, -.5, .5, 0.
    x, y = [1.0, 2.0, 2.0, 3.0], [10.0, 30.0, 20.0, 40.0]
    assert correlations.srcc(x, y) == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))
    # Six pairs: five concordant, one tied in x alone: 5 / sqrt(5 * 6).
    assert correlations.krcc(x, y) == pytest.approx(5 / np.sqrt(30))
    assert correlations.plcc(x, y) == pytest.approx(30 / np.sqrt(2 * 500))
    assert correlations.rmse([0.0, 0.0], [3.0, 4.0]) == pytest.approx(np.sqrt(12.5))


def test_fitted_plcc_follows_the_four_parameter_logistic():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 2, 300)
    y = 0.9 + (0.2 - 0.9) / (1 + np.exp(-(x - 0.5) / 0.8))
    assert correlations.plcc_fitted(x, y) == pytest.approx(1.0, abs=1e-9)
    assert correlations.plcc(x, y) < -0.9
    noisy = y + rng.normal(0, 0.1, 300)

    def residual(b):
        return b[1] + (b[0] - b[1]) / (1 + np.exp(-(x - b[2]) / abs(b[3]))) - noisy

    oracle = scipy.optimize.least_squares(residual, [noisy.max(), noisy.min(), x.mean(), x.std()], xtol=1e-12).x
    mapped = residual(oracle) + noisy
    assert correlations.plcc_fitted(x, noisy) == pytest.approx(np.corrcoef(mapped, noisy)[0, 1], abs=1e-6)


@pytest.mark.parametrize("metric", ALL[:4])
def test_constant_input_is_undefined_not_a_number(metric):
    assert metric([0.3] * 6, [1.0, 2, 3, 4, 5, 6]) is None
    assert metric([1.0, 2, 3, 4, 5, 6], [0.3] * 6) is None
    assert metric([0.1 + 0.2, 0.3] * 3, [1.0, 2, 3, 4, 5, 6]) is None  # apart by rounding alone
    assert metric([0.3], [0.5]) is None


def test_tiny_and_huge_values_are_not_constant():
    x = np.arange(6.0)
    assert correlations.plcc(x * 1e-200, x) == pytest.approx(1.0)
    assert correlations.plcc(x * 1e200, -x) == pytest.approx(-1.0)


@pytest.mark.parametrize("metric", ALL)
def test_bad_input_is_named(metric):
    with pytest.raises(ValueError, match=r"prediction\[1\] is nan"):
        metric([0.0, np.nan, 1.0], [0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match=r"mos\[2\] is inf"):
        metric([0.0, 0.5, 1.0], [0.0, 0.5, np.inf])
    with pytest.raises(ValueError, match=r"\(3,\) and mos \(3, 1\)"):
        metric(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="empty"):
        metric([], [])


def test_report_breaks_down_by_subset_and_novelty_and_returns_from_json(tmp_path):
    x, y = tied(1, 60)
    subset = np.array(["ss01", "ss02", "ss03"] * 20)
    novel = np.arange(60) >= 15
    failed = ({"path": "z.jpg", "error": "truncated"},)
    report = make_report(x, y, "biq2021", "test", {"sha256": "ab"}, subset, novel, failed)
    assert report.n == 60 and report.parts["novel"].n == 45 and report.parts["ss02"].n == 20
    assert report.parts["novel"].metrics["srcc"] == correlations.srcc(x[15:], y[15:])
    assert report.parts["ss02"].metrics["rmse"] == correlations.rmse(x[1::3], y[1::3])
    assert report.parts["ss01, novel"].n == 15
    report.save(tmp_path / "r.json")
    assert Report.from_dict(json.loads((tmp_path / "r.json").read_text())) == report


def test_report_says_undefined_and_omits_parts_that_are_the_whole():
    report = make_report(np.full(8, 0.5), np.arange(8) / 8, "d", "all", {}, np.array(["one"] * 8), np.ones(8, bool))
    assert report.parts == {}
    assert json.loads(report.to_json())["metrics"] == {
        **dict.fromkeys(METRICS),
        "rmse": report.metrics["rmse"],
    }
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(to_terminal(report.table()))
    assert "undefined" in console.export_text()
    with pytest.raises(ValueError, match="novel"):
        make_report(np.arange(3), np.arange(3), "d", "all", {}, novel=np.ones(2, bool))
