"""The deduction head: what its form guarantees, and what its training learns from planted faults."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driqa_jax.models.deduction import FLOOR, DeductionHead, soft_minimum
from experiments.deduction import fit as deduction
from experiments.deduction.features import as_degraded, ordinary
from experiments.deduction.human_scale import MEANS, drop

MOMENTS, TILES, WIDTH, TYPES = 12, 4, 6, 3


def planted(count=400, seed=0):
    """Photographs whose moment 0 is the level and whose degraded copies carry the type in their vectors."""
    rng = np.random.default_rng(seed)
    mos = rng.uniform(0.5, 0.8, count).astype(np.float32)
    moments = rng.normal(size=(count, MOMENTS)).astype(np.float32)
    moments[:, 0] = 10 * mos
    types = rng.integers(-1, TYPES, count)
    drops = np.where(types < 0, 0, rng.choice([0.3, 0.7], count)).astype(np.float32)
    vectors = rng.normal(0, 0.1, (count, TILES, WIDTH)).astype(np.float32)
    for row in np.flatnonzero(types >= 0):
        vectors[row, :, types[row]] += 4 * drops[row]
    rated = deduction.Rated(moments, mos)
    degraded = deduction.Degraded(moments, vectors, np.arange(count), types, drops, np.ones(count, np.float32))
    return rated, degraded, rng.normal(0, 0.1, (count, TILES, WIDTH)).astype(np.float32)


RECIPE = deduction.Recipe(epochs=30, rate=1e-2, steps=400, drop_rate=1e-2)


@pytest.fixture(scope="module")
def trained():
    head = DeductionHead(TYPES, level_width=16, drop_width=16, level_dropout=0.0, top=0.9)
    rated, degraded, ordinary = planted()
    return head, deduction.fit(head, rated, degraded, ordinary, RECIPE)


def test_a_soft_minimum_lies_below_both_by_at_most_its_bound():
    a, b = np.random.default_rng(0).random((2, 100)).astype(np.float32)
    found = np.asarray(soft_minimum(jnp.asarray(a), jnp.asarray(b), 0.03))
    lower = np.minimum(a, b)
    assert np.all(found <= lower + 1e-6)
    assert np.all(found >= lower - 0.03 * np.log(2) - 1e-6)


def test_the_drops_of_unseen_images_are_learned(trained):
    head, params = trained
    rated, degraded, _ = planted(seed=1)
    out = head.apply({"params": params}, degraded.moments, degraded.vectors)
    target = rated.mos - (rated.mos - FLOOR) * degraded.drops
    assert np.abs(np.asarray(out.mos) - target).mean() < 0.06
    rows = np.flatnonzero(degraded.types >= 0)
    largest = np.asarray(out.drops).mean(axis=1).argmax(axis=1)
    assert (largest[rows] == degraded.types[rows]).mean() > 0.95


def test_ordinary_images_keep_their_ceiling(trained):
    head, params = trained
    rated, _, ordinary = planted(seed=2)
    out = head.apply({"params": params}, rated.moments, ordinary)
    assert np.asarray(out.keep).mean() > 0.97


def test_a_share_weakens_the_drop_of_its_type(trained):
    head, params = trained
    _, degraded, _ = planted(seed=1)
    rows = degraded.types == 0
    full = head.apply({"params": params}, degraded.moments[rows], degraded.vectors[rows])
    part = head.clone(shares=(0.25, 1.0, 1.0)).apply({"params": params}, degraded.moments[rows], degraded.vectors[rows])
    assert np.all(np.asarray(part.keep) > np.asarray(full.keep))
    np.testing.assert_array_equal(part.drops, full.drops)


def test_levels_of_several_seeds_are_averaged():
    rated, degraded, ordinary = planted(80)
    recipe = deduction.Recipe(epochs=2, batch=16, steps=1, seed=5)
    single = DeductionHead(TYPES, level_width=8, level_dropout=0.0)
    both = deduction.fit(single.clone(level_width=16), rated, degraded, ordinary, dataclasses.replace(recipe, models=2))
    each = [
        deduction.fit(single, rated, degraded, ordinary, dataclasses.replace(recipe, seed=seed)) for seed in (5, 105)
    ]
    mean = np.mean([deduction.levels(single, params, rated.moments) for params in each], axis=0)
    merged = deduction.levels(single.clone(level_width=16), both, rated.moments)
    np.testing.assert_allclose(merged, mean, atol=1e-5)


def test_equal_seeds_give_equal_parameters():
    rated, degraded, ordinary = planted(80)
    head, recipe = DeductionHead(TYPES, 8, 8), deduction.Recipe(epochs=1, batch=16, steps=3)
    first, second = (deduction.fit(head, rated, degraded, ordinary, recipe) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_wrong_sizes_are_refused():
    rated, degraded, ordinary = planted(20)
    with pytest.raises(ValueError, match="shares must be empty or have 3 values, got 1"):
        deduction.fit(DeductionHead(TYPES, shares=(1.0,)), rated, degraded, ordinary)
    with pytest.raises(ValueError, match="20 moments and 19 scores"):
        deduction.fit(DeductionHead(TYPES), rated._replace(mos=rated.mos[1:]), degraded, ordinary)
    with pytest.raises(ValueError, match="equal lengths"):
        deduction.fit(DeductionHead(TYPES), rated, degraded._replace(types=degraded.types[1:]), ordinary)


def test_groups_become_training_rows():
    cells = [[("jpeg", 0), ("mean_shift", 4)], [("darken", 2), ("jpeg", 4)]]
    moments = np.arange(2 * 3 * 5, dtype=np.float16).reshape(2, 3, 5)
    rows = as_degraded(moments, np.zeros((2, 3, TILES, WIDTH), np.float16), cells, fidelity_weight=0.5)
    names = list(MEANS)
    np.testing.assert_array_equal(rows.moments, moments.reshape(6, 5))
    np.testing.assert_array_equal(rows.pristine, [0, 0, 0, 3, 3, 3])
    np.testing.assert_array_equal(
        rows.types, [-1, *map(names.index, ("jpeg", "mean_shift")), -1, names.index("darken"), names.index("jpeg")]
    )
    np.testing.assert_array_equal(rows.weights, [1, 1, 0, 1, 0.5, 1])
    np.testing.assert_allclose(
        rows.drops, [0, drop("jpeg", 0), drop("mean_shift", 4), 0, drop("darken", 2), drop("jpeg", 4)]
    )


def test_ordinary_images_follow_their_seed():
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    made = [ordinary(image, seed) for seed in range(20)]
    assert all(np.array_equal(a, ordinary(image, seed)) for seed, a in enumerate(made))
    assert min(a.shape[0] for a in made) < 120 and max(a.shape[0] for a in made) == 200
    assert all(0.39 < a.shape[0] / 200 <= 1 for a in made)
