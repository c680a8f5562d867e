"""Losses: each against plain loops in numpy float64, at its limits, under invariances, and on invalid shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driqa_jax.losses import (
    charbonnier,
    mos_l1,
    naming_loss,
    plcc_loss,
    psnr_loss,
    rank_hinge,
    ratio,
    restored_ratio,
    soft_nce,
    supcon,
)

RNG = np.random.default_rng(7)
# Without jit each would compile some thirty small programs.
jit_supcon, jit_soft_nce = jax.jit(supcon), jax.jit(soft_nce)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def uniform(*shape):
    return RNG.uniform(size=shape).astype(np.float32)


def agree(loss, oracle, *arguments, **settings):
    got = jax.jit(lambda *a: loss(*a, **settings))(*arguments)
    np.testing.assert_allclose(got, oracle(*arguments, **settings), rtol=1e-5, atol=1e-7)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a)) / np.sqrt(np.dot(b, b)))


def supcon_oracle(z, chain, photo, tau=0.1):
    total, anchors = 0.0, 0
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if chain[p] == chain[i] and photo[p] != photo[i]]
        others = [a for a in range(len(z)) if chain[a] != chain[i] or photo[a] != photo[i]]
        if not positives:
            continue
        below = sum(np.exp(cosine(z[i], z[a]) / tau) for a in others)
        total += -sum(np.log(np.exp(cosine(z[i], z[p]) / tau) / below) for p in positives) / len(positives)
        anchors += 1
    return total / anchors


def soft_nce_oracle(u, v, y, dataset, tau=0.1, sigma=0.05, degradation_class=None, kappa=0.0):
    total, rows = 0.0, 0
    for i in range(len(u)):
        partners = [j for j in range(len(u)) if j != i and dataset[j] == dataset[i]]
        if not partners:
            continue
        rows += 1
        weight = {}
        for j in partners:
            gap = float(y[i]) - float(y[j])
            bonus = 0.0
            if degradation_class is not None and degradation_class[i] >= 0:
                bonus = kappa * (degradation_class[i] == degradation_class[j])
            weight[j] = np.exp(-gap * gap / (2 * sigma * sigma) + bonus)
        forth = sum(np.exp(cosine(u[i], v[j]) / tau) for j in partners)
        back = sum(np.exp(cosine(u[j], v[i]) / tau) for j in partners)
        for j in partners:
            logs = cosine(u[i], v[j]) / tau - np.log(forth) + cosine(u[j], v[i]) / tau - np.log(back)
            total -= weight[j] / sum(weight.values()) * logs / 2
    return total / rows


def unit_oracle(x):
    x = x.astype(np.float64)
    return x / np.sqrt(np.dot(x, x))


def nearer_oracle(z, positive, negative, eps):
    z, positive, negative = unit_oracle(z), unit_oracle(positive), unit_oracle(negative)
    return (sum(abs(z - positive)) + eps) / (sum(abs(z - negative)) + eps)


def ratio_oracle(z, positive, y, dataset, eps=0.1):
    values = []
    for i in range(len(z)):
        gaps = {j: abs(float(y[i]) - float(y[j])) for j in range(len(z)) if dataset[j] == dataset[i]}
        farthest = max(gaps, key=gaps.get)
        if gaps[farthest] > 0:
            values.append(nearer_oracle(z[i], positive[i], z[farthest], eps))
    return sum(values) / len(values)


def restored_oracle(restored, clean, degraded, counted, eps=0.1):
    rows = [i for i in range(len(restored)) if counted[i]]
    return sum(nearer_oracle(restored[i], clean[i], degraded[i], eps) for i in rows) / len(rows)


def smooth_oracle(error, beta):
    error = abs(float(error))
    return error * error / (2 * beta) if error < beta else error - beta / 2


def naming_oracle(logits, severity_hat, present, severity, beta=0.1):
    types, severities, there = 0.0, 0.0, 0
    for m in range(len(logits)):
        for t in range(len(logits[m])):
            p = 1 / (1 + np.exp(-np.float64(logits[m, t])))
            types -= np.log(p if present[m, t] else 1 - p)
            if present[m, t]:
                severities += smooth_oracle(np.float64(severity_hat[m, t]) - severity[m, t], beta)
                there += 1
    return types / logits.size, severities / there


# A grid of 3 chains and 4 photos, a repeated (chain, photo), and two anchors whose chain has no other photo.
CHAIN = np.array([0, 1, 2] * 4 + [0, 7, 7], np.int32)
PHOTO = np.array([k // 3 for k in range(12)] + [0, 1, 1], np.int32)
DATASET = np.array([0, 0, 1, 0, 1, 2, 1, 0], np.int32)
CLASS = np.array([0, 1, 1, 0, -1, 2, -1, 1], np.int32)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_supcon_equals_the_loops(tau):
    agree(supcon, supcon_oracle, 3 * normal(len(CHAIN), 5), CHAIN, PHOTO, tau=tau)


@pytest.mark.parametrize(
    "settings", [{}, {"tau": 0.3, "sigma": 0.2}, {"sigma": 1.0, "degradation_class": CLASS, "kappa": 0.7}]
)
def test_soft_nce_equals_the_loops(settings):
    agree(soft_nce, soft_nce_oracle, normal(8, 6), 2 * normal(8, 6), uniform(8), DATASET, **settings)


@pytest.mark.parametrize("settings", [{}, {"eps": 1.0}])
def test_ratio_losses_equal_the_loops(settings):
    # Data set 2 has one photo, which nobody is far from.
    agree(ratio, ratio_oracle, 2 * normal(8, 6), normal(8, 6), uniform(8), DATASET, **settings)
    counted = np.array([True, False, True, True, False, True])
    agree(restored_ratio, restored_oracle, normal(6, 5), 3 * normal(6, 5), normal(6, 5), counted, **settings)


def test_ratio_losses_move_only_the_vector_and_collapse_gains_nothing():
    z, positive, y, dataset = normal(6, 4), normal(6, 4), uniform(6), np.zeros(6, np.int32)
    counted = np.ones(6, bool)

    @jax.jit
    def look(z, positive, y):
        gradients = jax.grad(ratio, argnums=(0, 1))(z, positive, y, dataset)
        pulled = jax.grad(restored_ratio, argnums=(0, 1, 2))(z, positive, z[::-1], counted)
        same = jnp.ones((6, 4))
        return gradients, pulled, ratio(same, same, y, dataset), restored_ratio(same, same, same, counted)

    gradients, pulled, collapsed, alike = look(z, positive, y)
    assert np.abs(gradients[0]).max() > 0 and not np.any(gradients[1])
    assert np.abs(pulled[0]).max() > 0 and not np.any(pulled[1]) and not np.any(pulled[2])
    np.testing.assert_allclose([collapsed, alike], 1.0, rtol=1e-6)


def test_charbonnier_equals_the_loops():
    def oracle(a, b):
        pairs = list(zip(a.astype(np.float64).ravel(), b.astype(np.float64).ravel(), strict=True))
        return sum(np.sqrt((x - y) ** 2 + 1e-6) for x, y in pairs) / len(pairs)

    agree(charbonnier, oracle, uniform(2, 4, 5, 3), uniform(2, 4, 5, 3))


def test_psnr_loss_is_the_mean_dB_below_the_bound_per_image():
    a, b = uniform(3, 4, 5, 3), uniform(3, 4, 5, 3)

    def oracle(a, b):
        errors = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3))
        return np.mean([50.0 - 10 * np.log10(1 / (error + 1e-5)) for error in errors])

    agree(psnr_loss, oracle, a, b)


def test_naming_loss_equals_the_loops():
    present = uniform(6, 5) < 0.4
    agree(naming_loss, naming_oracle, 3 * normal(6, 5), uniform(6, 5), present, uniform(6, 5))


def test_mos_losses_equal_the_loops():
    pred, mos = uniform(9), uniform(9)
    gaps = [float(p) - float(m) for p, m in zip(pred, mos, strict=True)]
    agree(mos_l1, lambda p, m: sum(map(abs, gaps)) / 9, pred, mos)
    agree(plcc_loss, lambda p, m: (1 - np.corrcoef(p.astype(np.float64), m)[0, 1]) / 2, pred, mos)
    agree(rank_hinge, lambda p, m: sum(max(0.0, 0.03 - g) for g in gaps) / 9, pred, mos)


# Inputs at which a formula written without care divides by zero: (loss of the differentiated argument, that
# argument).
ONE, SAME = np.ones(1, np.int32), np.zeros(4, np.int32)
DEGENERATE = {
    "supcon, one row": (lambda z: supcon(z, ONE, ONE), normal(1, 3)),
    "supcon, all equal": (lambda z: supcon(z, SAME, np.arange(4)), np.ones((4, 3))),
    "supcon, zero vectors": (lambda z: supcon(z, SAME, np.arange(4)), np.zeros((4, 3))),
    "supcon, no positives": (lambda z: supcon(z, np.arange(4), SAME), normal(4, 3)),
    "supcon, one photo, one chain": (lambda z: supcon(z, SAME, SAME), normal(4, 3)),
    "soft_nce, one row": (lambda u: soft_nce(u, -u, jnp.ones(1), ONE), normal(1, 3)),
    "soft_nce, all equal": (lambda u: soft_nce(u, u, jnp.ones(4), SAME), np.ones((4, 3))),
    "soft_nce, zero vectors": (lambda u: soft_nce(u, u, jnp.ones(4), SAME), np.zeros((4, 3))),
    "soft_nce, a set each": (lambda u: soft_nce(u, -u, jnp.ones(4), np.arange(4)), normal(4, 3)),
    "soft_nce, scores far apart": (
        lambda u: soft_nce(u, -u, jnp.array([0.0, 1.0, 0.0, 9.0]), SAME, sigma=1e-3),
        np.eye(4),
    ),
    "ratio, one row": (lambda z: ratio(z, -z, jnp.ones(1), ONE), normal(1, 3)),
    "ratio, one score": (lambda z: ratio(z, -z, jnp.ones(4), SAME), normal(4, 3)),
    "ratio, all equal": (lambda z: ratio(z, z, jnp.arange(4.0), SAME), np.ones((4, 3))),
    "ratio, zero vectors": (lambda z: ratio(z, z, jnp.arange(4.0), SAME), np.zeros((4, 3))),
    "restored, perfect": (lambda z: restored_ratio(z, z, z, np.ones(4, bool)), np.ones((4, 3))),
    "restored, all clean": (lambda z: restored_ratio(z, -z, z, np.zeros(4, bool)), normal(4, 3)),
    "charbonnier, perfect": (lambda x: charbonnier(x, jnp.ones((2, 3))), np.ones((2, 3))),
    "psnr, perfect": (lambda x: psnr_loss(x, jnp.ones((1, 2, 2, 3))), np.ones((1, 2, 2, 3))),
    "naming, none present, huge": (
        lambda x: sum(naming_loss(x, x, np.zeros((2, 3)), np.full((2, 3), np.nan))),
        np.full((2, 3), 1e4),
    ),
    "naming, exact": (lambda x: sum(naming_loss(x, x, np.ones((2, 3)), np.ones((2, 3)))), np.ones((2, 3))),
    "mos_l1, exact": (lambda p: mos_l1(p, jnp.ones(4)), np.ones(4)),
    "plcc, one": (lambda p: plcc_loss(p, jnp.ones(1)), np.ones(1)),
    "plcc, constant predictions": (lambda p: plcc_loss(p, jnp.arange(4.0)), np.full(4, 0.3)),
    "plcc, constant scores": (lambda p: plcc_loss(p, jnp.ones(4)), np.arange(4) / 4),
    "rank, tie at the margin": (lambda p: rank_hinge(p, p - 0.03), np.ones(4)),
    "rank, no pairs": (lambda p: rank_hinge(p, p), np.ones(0)),
}
NOTHING_TO_COMPARE = [
    "supcon, one row",
    "supcon, no positives",
    "supcon, one photo, one chain",
    "soft_nce, one row",
    "soft_nce, a set each",
    "ratio, one row",
    "ratio, one score",
    "restored, all clean",
    "rank, no pairs",
]


@pytest.fixture(scope="module")
def degenerate():
    """case -> (value, gradient); compiled as one program, which takes a third of the time of twenty."""
    at = {case: jnp.asarray(point, jnp.float32) for case, (_, point) in DEGENERATE.items()}
    return jax.jit(lambda at: {c: jax.value_and_grad(loss)(at[c]) for c, (loss, _) in DEGENERATE.items()})(at)


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_inputs_give_finite_values_and_gradients(case, degenerate):
    value, gradient = degenerate[case]
    assert np.isfinite(value) and value >= 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("case", NOTHING_TO_COMPARE)
def test_a_batch_without_comparisons_has_zero_loss_and_gradient(case, degenerate):
    value, gradient = degenerate[case]
    assert value == 0 and not np.any(gradient)


def test_constant_predictions_count_as_uncorrelated_and_can_still_learn():
    value, gradient = jax.jit(jax.value_and_grad(plcc_loss))(jnp.full(5, 0.3), jnp.arange(5.0) / 5)
    np.testing.assert_allclose(value, 0.5, atol=1e-6)
    assert (np.diff(gradient) < 0).all()  # against the gradient: higher scores go up


def test_supcon_rewards_agreement_of_chains_and_penalizes_agreement_of_photos():
    chain, photo = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    by_chain, by_photo = np.eye(4, dtype=np.float32)[chain], np.eye(4, dtype=np.float32)[photo]
    mixed = by_chain + 0.5 * normal(12, 4)
    values = [float(jit_supcon(z, chain, photo)) for z in (by_chain, mixed, by_photo)]
    assert values[0] < values[1] < values[2]
    # Perfect agreement: 3 positives at cosine 1 among 11, 8 negatives at 0.
    np.testing.assert_allclose(values[0], np.log(3 + 8 * np.exp(-10)), rtol=1e-5)


def test_supcon_ignores_pairs_of_one_photo_and_chain():
    z = normal(5, 3)
    # Rows 0 and 1 are twins and nobody has a positive; as positives of each other the twins would cost
    # something.
    assert jit_supcon(z, np.array([0, 0, 3, 4, 5]), np.array([0, 0, 1, 1, 0])) == 0
    # Row 2 is the one positive of both, and the twin stands in neither's denominator.
    value = jit_supcon(z[[0, 1, 0]], np.zeros(3, np.int32), np.array([0, 0, 1]))
    expected = supcon_oracle(z[[0, 1, 0]], np.zeros(3, np.int32), np.array([0, 0, 1]))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_soft_nce_prefers_vectors_in_the_order_of_quality():
    y, dataset = np.linspace(0, 1, 12).astype(np.float32), np.zeros(12, np.int32)
    arc = np.stack([np.cos(3 * y), np.sin(3 * y)], 1)
    shuffled = arc[np.random.default_rng(0).permutation(12)]
    matched = float(jit_soft_nce(arc, arc, y, dataset))
    assert matched < float(jit_soft_nce(arc, shuffled, y, dataset)) - 0.5
    assert matched < float(jit_soft_nce(arc, arc[::-1], y, dataset)) - 0.5


def test_soft_nce_masks_the_diagonal_and_other_datasets():
    u, v, y = normal(8, 4), normal(8, 4), uniform(8)
    together = np.zeros(8, np.int32)
    # Two photos: each has one partner, whose probability is 1 whatever the vectors are.
    np.testing.assert_allclose(jit_soft_nce(u[:2], v[:2], y[:2], together[:2]), 0, atol=1e-6)
    # Two sets in a batch: the row-weighted mean of the two alone; photos alone in their set change nothing.
    parts = [jit_soft_nce(u[s], v[s], y[s], together[s]) for s in (slice(0, 3), slice(3, 6))]
    sets = np.array([4, 4, 4, 1, 1, 1, 8, 9], np.int32)
    np.testing.assert_allclose(jit_soft_nce(u, v, y, sets), sum(parts) / 2, rtol=1e-5)


def test_batch_losses_ignore_order_and_length_of_vectors():
    order = RNG.permutation(8)
    jit_plcc = jax.jit(plcc_loss)
    u, v, y, scale = normal(8, 4), normal(8, 4), uniform(8), 0.5 + uniform(8, 1)
    chain, photo = np.tile([0, 1], 4), np.repeat(np.arange(4), 2)
    first = jit_supcon(u, chain, photo)
    np.testing.assert_allclose(first, jit_supcon((u * scale)[order], chain[order], photo[order]), rtol=1e-5)
    first = jit_soft_nce(u, v, y, DATASET)
    second = jit_soft_nce((u * scale)[order], v[order], y[order], DATASET[order])
    np.testing.assert_allclose(first, second, rtol=1e-5)
    np.testing.assert_allclose(first, jit_soft_nce(v, u, y, DATASET), rtol=1e-5)
    np.testing.assert_allclose(jit_plcc(u[:, 0], y), jit_plcc(3 * u[order, 0] + 1, y[order]), rtol=1e-4)


def test_bfloat16_inputs_are_computed_in_float32():
    z = jnp.asarray(normal(len(CHAIN), 5), jnp.bfloat16)
    exact = supcon_oracle(np.asarray(z, np.float32), CHAIN, PHOTO)
    np.testing.assert_allclose(jit_supcon(z, CHAIN, PHOTO), exact, rtol=1e-5)
    for loss, a in ((charbonnier, z), (mos_l1, z[:, 0]), (plcc_loss, z[:, 0]), (rank_hinge, z[:, 0])):
        assert jax.eval_shape(loss, a, a).dtype == jnp.float32


B, B1, BC = np.ones(4, np.float32), np.ones((4, 1), np.float32), np.ones((4, 2), np.float32)
REFUSED = {
    "mos_l1": (lambda: mos_l1(B, B1), "(4, 1)", "(4,)"),
    "mos_l1, both columns": (lambda: mos_l1(B1, B1), "(4, 1)", "(B,)"),
    "plcc_loss": (lambda: plcc_loss(B, B1), "(4, 1)", "(4,)"),
    "plcc_loss, scalars": (lambda: plcc_loss(B[0], B[0]), "()", "(B,)"),
    "rank_hinge": (lambda: rank_hinge(B, B[:3]), "(3,)", "(4,)"),
    "charbonnier": (lambda: charbonnier(np.ones((1, 2, 3)), np.ones((2, 3))), "(2, 3)", "(1, 2, 3)"),
    "psnr_loss": (lambda: psnr_loss(np.ones((1, 2, 3, 3)), np.ones((2, 2, 3, 3))), "(2, 2, 3, 3)", "(1, 2, 3, 3)"),
    "psnr_loss, one image": (lambda: psnr_loss(BC, BC), "(4, 2)", "(M, H, W, C)"),
    "supcon, z": (lambda: supcon(B, B, B), "(4,)", "(M, C)"),
    "supcon, chain": (lambda: supcon(BC, B1, B), "(4, 1)", "(4,)"),
    "supcon, photo": (lambda: supcon(BC, B, B[:3]), "(3,)", "(4,)"),
    "naming, logits": (lambda: naming_loss(B, B, B, B), "(4,)", "(M, T)"),
    "naming, present": (lambda: naming_loss(BC, BC, B, BC), "(4,)", "(4, 2)"),
    "naming, severity": (lambda: naming_loss(BC, BC, BC, B1), "(4, 1)", "(4, 2)"),
    "soft_nce, v": (lambda: soft_nce(BC, B1, B, B), "(4, 1)", "(4, 2)"),
    "soft_nce, y": (lambda: soft_nce(BC, BC, B1, B), "(4, 1)", "(4,)"),
    "soft_nce, dataset": (lambda: soft_nce(BC, BC, B, B1), "(4, 1)", "(4,)"),
    "ratio, positive": (lambda: ratio(BC, B1, B, B), "(4, 1)", "(4, 2)"),
    "ratio, y": (lambda: ratio(BC, BC, B1, B), "(4, 1)", "(4,)"),
    "restored, clean": (lambda: restored_ratio(BC, B1, BC, B), "(4, 1)", "(4, 2)"),
    "restored, counted": (lambda: restored_ratio(BC, BC, BC, B1), "(4, 1)", "(4,)"),
    "soft_nce, class": (lambda: soft_nce(BC, BC, B, B, degradation_class=B1), "(4, 1)", "(4,)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_shape_mismatch_raises_and_names_both_shapes(case):
    call, *shapes = REFUSED[case]
    with pytest.raises(ValueError) as refusal:
        call()
    assert all(shape in str(refusal.value) for shape in shapes), refusal.value
