"""The calibration rises whatever it was fitted on, and survives JSON."""

import json

import numpy as np
import pytest

from driqa_jax.inference.calibration import IDENTITY, Calibration, fit_calibration


def test_fit_finds_a_known_curve():
    x = np.random.default_rng(0).uniform(-1, 2, 400)
    true = Calibration(0.1, 0.8, 0.4, 0.25)
    found = fit_calibration(x, true(x))
    np.testing.assert_allclose(found(x), true(x), atol=1e-5)


def test_fit_lowers_the_error_of_a_skewed_prediction():
    rng = np.random.default_rng(1)
    mos = rng.beta(4, 2, 500)
    prediction = 0.3 + 0.25 * mos + rng.normal(0, 0.02, 500)
    calibrated = fit_calibration(prediction, mos)(prediction)
    assert np.mean((calibrated - mos) ** 2) < 0.1 * np.mean((prediction - mos) ** 2)


@pytest.mark.parametrize("seed", range(4))
def test_every_fit_rises(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=30)
    y = np.clip(0.5 + 0.02 * x + rng.normal(0, 0.2, 30), 0, 1)
    if np.corrcoef(x, y)[0, 1] <= 0:
        x = -x
    grid = np.linspace(-0.5, 1.5, 1001)
    assert (np.diff(fit_calibration(x, y)(grid)) >= 0).all()


def test_fit_of_a_straight_line_stays_straight():
    x = np.linspace(0.2, 0.8, 50)
    np.testing.assert_allclose(fit_calibration(x, x)(x), x, atol=5e-3)


def test_json_round_trip_is_exact():
    curve = Calibration(0.1, 1 / 3, 0.2, 0.7)
    back = Calibration.from_dict(json.loads(json.dumps(curve.to_dict())))
    assert back == curve
    assert Calibration.from_dict(json.loads(json.dumps(IDENTITY.to_dict()))) == IDENTITY
    assert Calibration.from_dict(None) == Calibration.from_dict({}) == IDENTITY
    np.testing.assert_array_equal(IDENTITY(np.array([-3.0, 7.0])), [-3.0, 7.0])


@pytest.mark.parametrize(
    "values", [{"width": 0.0}, {"span": -1.0}, {"low": float("nan")}, {"centre": "0"}, {"slope": 1.0}]
)
def test_invalid_or_falling_curves_are_refused(values):
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_dict(values)


def test_fit_refuses_unsuitable_predictions():
    x = np.linspace(0, 1, 20)
    for bad in (np.zeros(20), -x):
        with pytest.raises(ValueError, match="do not rise"):
            fit_calibration(bad, x)
    with pytest.raises(ValueError, match="too few"):
        fit_calibration(x[:5], x[:5])
    with pytest.raises(ValueError, match="shape"):
        fit_calibration(x, x[:, None])
    with pytest.raises(ValueError, match="finite"):
        fit_calibration(np.where(x > 0.5, np.nan, x), x)
