"""Linear probes against closed forms and another optimizer, CKA against its definition and its invariances."""

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from driqa_jax.evaluation.probes import fit_logistic, fit_ridge, grouped_folds, predict_mos, predict_types, unbiased_cka


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def standardized(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def test_ridge_is_least_squares_with_rows_for_the_penalty(rng):
    x, y = rng.normal(3, 2, (40, 5)), rng.random(40)
    # The penalty as five more pictures, each of one feature alone, whose answer is zero.
    rows = np.concatenate([standardized(x), np.sqrt(0.3 * 40) * np.eye(5)])
    w = np.linalg.lstsq(rows, np.concatenate([y - y.mean(), np.zeros(5)]), rcond=None)[0]
    assert fit_ridge(x, y, 0.3)(x) == pytest.approx(standardized(x) @ w + y.mean())
    assert fit_ridge(x, y, 1e9)(x) == pytest.approx(y.mean())


def test_logistic_is_what_another_optimizer_finds(rng):
    x, labels = rng.normal(1, 3, (60, 3)), rng.integers(0, 3, 60)
    z = standardized(x)

    def loss(flat):
        w, b = flat[:9].reshape(3, 3), flat[9:]
        logits = z @ w + b
        return (logsumexp(logits, axis=1) - logits[np.arange(60), labels]).mean() + 0.05 / 2 * (w**2).sum()

    best = minimize(loss, np.zeros(12), method="Powell", options={"xtol": 1e-8, "ftol": 1e-12, "maxiter": 10_000}).x
    expected = z @ best[:9].reshape(3, 3) + best[9:]
    found = fit_logistic(x, labels, 0.05, 3)(x)
    apart = [logits - logits.mean(axis=1, keepdims=True) for logits in (found, expected)]
    assert apart[0] == pytest.approx(apart[1], abs=1e-3)


def test_logistic_without_features_gives_the_shares_of_the_classes():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    logits = fit_logistic(np.full((10, 2), 7.0), labels, 0.1, 3)(np.full((1, 2), 7.0))[0]
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx([0.6, 0.3, 0.1], abs=1e-4)


def test_a_probe_reads_what_is_there_and_nothing_from_noise(rng):
    x, groups = rng.normal(size=(300, 8)), [f"scene {i // 3}" for i in range(300)]
    folds = grouped_folds(groups)
    assert set(np.bincount(folds)) == {60} and all(len(set(folds[i : i + 3])) == 1 for i in range(0, 300, 3))
    mos = x @ rng.normal(size=8)
    assert np.corrcoef(predict_mos(x, mos, folds), mos)[0, 1] > 0.999
    assert abs(np.corrcoef(predict_mos(x, rng.permutation(mos), folds), mos)[0, 1]) < 0.35
    labels = x[:, :4].argmax(axis=1)
    assert (predict_types(x, labels, folds).argmax(axis=1) == labels).mean() > 0.9
    assert (predict_types(x, rng.permutation(labels), folds).argmax(axis=1) == labels).mean() < 0.4


def test_a_picture_is_never_fitted_with_its_own_scene(rng):
    # Every scene has a mark and a MOS of its own: whoever has seen the scene knows the answer.
    scene = np.repeat(np.arange(40), 3)
    mos, marks = rng.random(40)[scene], np.eye(40)[scene]
    apart = predict_mos(marks, mos, grouped_folds(scene.astype(str)))
    parted = predict_mos(marks, mos, np.tile([0, 1, 2], 40))
    assert np.corrcoef(parted, mos)[0, 1] > 0.95
    assert np.corrcoef(apart, mos)[0, 1] < 0.3
    with pytest.raises(ValueError, match="2 groups of pictures cannot make 5 folds"):
        grouped_folds(["a", "b"] * 4)


def test_cka_ignores_rotation_scale_and_offset(rng):
    cka = unbiased_cka
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 6))
    turned = 5 * x @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 3
    assert cka(x, turned) == pytest.approx(1)
    assert cka(turned, y) == pytest.approx(cka(x, y)) == pytest.approx(cka(y, x))
    # ... but any other linear map: it is no canonical correlation.
    assert cka(x, x * [1, 1, 1, 100]) < 0.9
    assert cka(np.ones((50, 2)), y) is None
    with pytest.raises(ValueError, match="CKA compares"):
        cka(x, y[:-1])


def test_unbiased_hsic_is_the_mean_over_four_different_pictures(rng):
    # Song et al.: an average over all ordered quadruples without a repeat, here of 6 pictures by brute force.
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))

    def hsic(a, b):
        k, m = a @ a.T, b @ b.T
        return np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)])

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert unbiased_cka(x, y) == pytest.approx(expected)


def test_unrelated_representations_have_no_unbiased_cka(rng):
    pairs = [(rng.normal(size=(60, 30)), rng.normal(size=(60, 30))) for _ in range(20)]
    assert abs(np.mean([unbiased_cka(x, y) for x, y in pairs])) < 0.03
