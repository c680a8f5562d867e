"""The deduction head: what its form guarantees, and what its training learns from planted faults."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from driqa_jax.models.deduction import (
    EVIDENCE,
    FLOOR,
    SHRINKAGE,
    VISIBLE,
    DeductionHead,
    Places,
    pooled,
    seen,
    soft_minimum,
)
from experiments.deduction import examples as drawn
from experiments.deduction import training
from experiments.deduction.drops import (
    DOUBTFUL,
    SEEN,
    Batch,
    Examples,
    groups_of,
    missed_by_eye,
    names_known,
    targets,
)
from experiments.deduction.fit import fit
from experiments.deduction.human_scale import MEANS, drop
from experiments.deduction.level import Rated, levels
from experiments.deduction.visible import TYPES as NAMES
from experiments.deduction.visible import drop_at

MOMENTS, CELLS, PLACES, TILES, WIDTH, TYPES = 12, 8, 5, 4, 6, 3
OPTIONS = ([1.0] * TYPES,)


def planted(count=400, seed=0):
    """Photographs whose moment 0 is the level; the type and its drop are in the vectors, its place is in the cells."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.5, 0.8, count).astype(np.float32)
    moments = rng.normal(size=(count, MOMENTS)).astype(np.float32)
    moments[:, 0] = 10 * base
    rated = np.arange(count) % 4 == 3
    types = np.where(rated, -1, rng.integers(-1, TYPES, count))
    drops = np.where(types < 0, 0, rng.choice([0.3, 0.7], count)).astype(np.float32)
    vectors = rng.normal(0, 0.1, (count, TILES, WIDTH)).astype(np.float32)
    cells = rng.normal(0, 0.1, (count, PLACES, CELLS)).astype(np.float32)
    area = np.ones((count, PLACES), np.float32)
    for row in np.flatnonzero(types >= 0):
        vectors[row, :, types[row]] += 4 * drops[row]
        area[row] = rng.random(PLACES) < 0.7
        area[row, 0] = 1.0
        cells[row, :, 0] += 2 * area[row]
    examples = Examples(
        *(moments, cells, vectors),
        near=np.full((count, PLACES, TILES), 1 / TILES, np.float32),
        central=np.ones((count, PLACES), np.float32),
        area=area * (types >= 0)[:, None],
        base=base,
        types=types,
        drops=drops,
        kinds=np.where(rated, "rated", np.where(types < 0, "clean", "part")),
        faults=np.full((count, TYPES), np.nan, np.float32),
        doubtful=np.zeros(count, bool),
    )
    return Rated(moments, base), examples


def test_groups_that_somebody_named_explain_together_what_the_rating_lacks():
    head = DeductionHead(4, groups=(0, 0, 2, 3))
    np.testing.assert_array_equal(groups_of(head), [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    lost = jnp.array([[0.2, 0.1, 0.3]] * 4)
    batch = Batch(
        *[None] * 6,
        seen=jnp.array([[1.0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]]),
        lacks=jnp.array([0.4, 0.4, 1 - np.exp(-0.3), 0.4]),
        looked=jnp.array([1.0, 1, 1, 0]),
    )
    drop = 1 - np.exp(-0.3)  # of the two that were named
    entropy = -0.4 * np.log(drop) - 0.6 * np.log(1 - drop)
    least = -drop * np.log(drop) - (1 - drop) * np.log(1 - drop)
    found = missed_by_eye(lost, batch)
    np.testing.assert_allclose(found, [entropy + 0.3, 0.6, least + 0.3, 0.0], atol=1e-5)


def test_what_somebody_saw_of_rated_photographs_has_a_drop_that_their_rating_bounds():
    _, examples = planted(8)
    faults = np.full((8, TYPES), np.nan, np.float32)
    faults[3], faults[7] = [0, 1, 0], [0, 0, 0]  # rows 3 and 7 are rated
    base = np.array([0.8] * 3 + [0.4] + [0.8] * 4, np.float32)
    head = DeductionHead(TYPES, top=0.9)
    doubtful = np.zeros(8, bool)
    known = targets(head, examples._replace(faults=faults, base=base, doubtful=doubtful), *OPTIONS)
    np.testing.assert_array_equal(known.looked, [0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(known.seen[3], [0, 1, 0])
    assert known.lacks[3] == pytest.approx(1 - (0.4 - FLOOR) / (0.9 - FLOOR))
    assert known.lacks[0] == pytest.approx(SEEN[0])
    doubtful[3] = True
    known = targets(head, examples._replace(faults=faults, base=base, doubtful=doubtful), *OPTIONS)
    assert known.lacks[3] == pytest.approx(DOUBTFUL) and DOUBTFUL < VISIBLE < SEEN[0]
    # What is known of names by the rating alone gives way to what was seen.
    np.testing.assert_array_equal(names_known(known)[np.array([3, 7])], [0, 0])


def test_photographs_that_somebody_looked_at_teach_their_faults():
    rated, examples = planted()
    rows = np.flatnonzero(examples.kinds == "rated")
    vectors, faults = examples.vectors.copy(), examples.faults.copy()
    base = examples.base.copy()
    base[rows] = 0.4
    half = rows[::2]
    vectors[half, :, 5] += 3.0  # what no other example shows
    faults[rows], faults[half, 1] = 0, 1
    examples = examples._replace(vectors=vectors, faults=faults, base=base)
    head = DeductionHead(TYPES, level_width=16, drop_width=16, level_dropout=0.0, top=0.9)
    drop = applied(head, fit(head, rated, examples, *OPTIONS, RECIPE), examples).drop
    named = np.asarray(drop)[half].mean(axis=0)
    assert named[1] > 0.35 and named[[0, 2]].max() < 0.1
    assert np.asarray(drop)[np.setdiff1d(rows, half)].mean(axis=0).max() < 0.1


def test_where_nobody_rated_the_level_stands_for_the_rating():
    rated, examples = planted()
    rows = np.flatnonzero(examples.kinds == "rated")
    vectors, faults, kinds = examples.vectors.copy(), examples.faults.copy(), examples.kinds.astype("U8")
    vectors[rows, :, 5] += 3.0
    faults[rows], faults[rows, 1], kinds[rows] = 0, 1, "unrated"
    base = np.where(kinds == "unrated", -1.0, examples.base)
    examples = examples._replace(vectors=vectors, faults=faults, kinds=kinds, base=base)
    head = DeductionHead(TYPES, level_width=16, drop_width=16, level_dropout=0.0, top=0.9)
    found = applied(head, fit(head, rated, examples, *OPTIONS, RECIPE), examples)
    drop = np.asarray(found.drop)[rows]
    assert np.isfinite(found.mos).all() and drop[:, 1].mean() > 0.1 > 2 * drop[:, [0, 2]].mean()
    np.testing.assert_array_less(np.asarray(found.level)[rows] - 0.05, np.asarray(found.ceiling)[rows])


def test_each_loss_is_reported_once_a_step_and_falls():
    told = {}
    head = DeductionHead(TYPES, level_width=16, drop_width=16, level_dropout=0.0, top=0.9)
    recipe = dataclasses.replace(RECIPE, epochs=4, models=2, steps=100)
    fit(head, *planted(), *OPTIONS, recipe, lambda *each: told.setdefault(each[0], []).append(each[1:]))
    assert list(told) == ["loss of level 1", "loss of level 2", "loss of the drops"]
    assert [step for step, _ in told["loss of the drops"]] == list(range(1, 101))
    assert all(
        np.mean([loss for _, loss in losses[-10:]]) < np.mean([loss for _, loss in losses[:10]])
        for losses in told.values()
    )


def places_of(examples):
    return Places(examples.near, examples.central, np.ones(examples.central.shape, bool))


def applied(head, params, examples):
    arrays = examples.moments, examples.cells, examples.vectors
    return head.apply({"params": params}, *arrays, places_of(examples))


RECIPE = training.Recipe(epochs=30, rate=1e-2, decay=1e-4, steps=600, drop_rate=1e-2)


@pytest.fixture(scope="module")
def trained():
    head = DeductionHead(TYPES, level_width=16, drop_width=16, level_dropout=0.0, top=0.9)
    return head, fit(head, *planted(), *OPTIONS, RECIPE)


def test_a_soft_minimum_lies_below_both_by_at_most_its_bound():
    a, b = np.random.default_rng(0).random((2, 100)).astype(np.float32)
    found = np.asarray(soft_minimum(jnp.asarray(a), jnp.asarray(b), 0.03))
    lower = np.minimum(a, b)
    assert np.all(found <= lower + 1e-6)
    assert np.all(found >= lower - 0.03 * np.log(2) - 1e-6)


def test_a_power_mean_leaves_half_of_a_fault_in_an_eighth_and_all_of_one_everywhere():
    lost = np.zeros((1, 16, 2), np.float32)
    lost[0, :2, 0], lost[0, :, 1] = 0.8, 0.6
    np.testing.assert_allclose(pooled(jnp.asarray(lost), jnp.ones((1, 16), bool)), [[0.4, 0.6]], atol=1e-4)
    np.testing.assert_allclose(pooled(jnp.asarray(lost), jnp.arange(16)[None] < 2), [[0.8, 0.6]], atol=1e-4)


def test_the_drops_of_unseen_images_and_their_places_are_learned(trained):
    head, params = trained
    _, examples = planted(seed=1)
    out = applied(head, params, examples)
    rows = np.flatnonzero((examples.types >= 0) & (examples.kinds == "part"))
    share = (examples.area[rows] ** 3).mean(axis=1) ** (1 / 3)
    target = FLOOR + (examples.base[rows] - FLOOR) * (1 - examples.drops[rows]) ** share
    assert np.abs(np.asarray(out.mos)[rows] - target).mean() < 0.13
    assert (np.asarray(out.drop).argmax(axis=1)[rows] == examples.types[rows]).mean() > 0.95
    kept = np.asarray(out.cell_keep)[rows]
    inside = examples.area[rows] > 0
    assert kept[~inside].mean() > kept[inside].mean() + 0.2


def test_ordinary_images_keep_their_ceiling(trained):
    head, params = trained
    _, examples = planted(seed=2)
    clean = examples.kinds == "clean"
    assert np.asarray(applied(head, params, examples).keep)[clean].mean() > 0.95


def test_what_a_low_level_lacks_is_seen_as_its_likeliest_causes_and_the_score_stays():
    head = DeductionHead(TYPES, 8, 8, causes=(1.0, 1.0, 0.0))
    drop, level = jnp.array([[0.2, 0.02, 0.1]] * 3), jnp.array([0.8, 0.3, 0.05])
    gain = np.asarray(head.apply({}, level, drop, method="gain"))
    found = np.asarray(seen(drop, gain))
    np.testing.assert_allclose(found[0], 1 - (1 - drop[0]) ** SHRINKAGE, atol=1e-6)
    lost, lacks = -np.log1p(-np.asarray(drop[0])), np.log(0.65 / 0.25)
    expected = [1 + lacks / (lost.sum() + EVIDENCE)] * 2 + [1.0]
    np.testing.assert_allclose(gain[1] / SHRINKAGE, expected, rtol=1e-5)
    assert found[2, 0] > found[1, 0] > 0.4 and found[1, 1] < 0.2 and found[2, 2] == pytest.approx(1 - 0.9**SHRINKAGE)
    # Next to no evidence is not seen (`VISIBLE` is 1/6), however low the level.
    nothing = head.apply({}, level, jnp.full((3, TYPES), 2e-4), method="gain")
    assert np.asarray(seen(jnp.full((3, TYPES), 2e-4), nothing)).max() < 0.11
    blind = DeductionHead(TYPES, 8, 8)
    sound = jnp.full((3,), 0.9)
    alike = DeductionHead(TYPES, 8, 8, groups=(4, 4, 7)).apply(
        {}, sound, jnp.array([[0.2, 0.2, 0.1]] * 3), method="gain"
    )
    np.testing.assert_allclose(alike[0] / SHRINKAGE, [2.0, 2.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(blind.apply({}, level, drop, method="gain"), SHRINKAGE)


def test_a_share_weakens_the_drop_of_its_type(trained):
    head, params = trained
    _, examples = planted(seed=1)
    rows = examples.types == 0
    chosen = Examples(*(x[rows] for x in examples))
    full, part = (applied(each, params, chosen) for each in (head, head.clone(shares=(0.25, 1.0, 1.0))))
    assert np.all(np.asarray(part.keep) > np.asarray(full.keep))
    np.testing.assert_array_equal(part.drops, full.drops)


def test_levels_of_several_seeds_are_averaged():
    rated, examples = planted(80)
    recipe = training.Recipe(epochs=2, batch=16, steps=1, seed=5)
    single = DeductionHead(TYPES, level_width=8, level_dropout=0.0)
    both = fit(single.clone(level_width=16), rated, examples, *OPTIONS, dataclasses.replace(recipe, models=2))
    each = [fit(single, rated, examples, *OPTIONS, dataclasses.replace(recipe, seed=seed)) for seed in (5, 105)]
    mean = np.mean([levels(single, params, rated.moments) for params in each], axis=0)
    merged = levels(single.clone(level_width=16), both, rated.moments)
    np.testing.assert_allclose(merged, mean, atol=1e-5)


def test_equal_seeds_give_equal_parameters():
    rated, examples = planted(80)
    head, recipe = DeductionHead(TYPES, 8, 8), training.Recipe(epochs=1, batch=16, steps=3)
    first, second = (fit(head, rated, examples, *OPTIONS, recipe) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_wrong_sizes_are_refused():
    rated, examples = planted(20)
    with pytest.raises(ValueError, match="shares must be empty or have 3 values, got 1"):
        fit(DeductionHead(TYPES, shares=(1.0,)), rated, examples, *OPTIONS, RECIPE)
    with pytest.raises(ValueError, match="20 moments and 19 scores"):
        fit(DeductionHead(TYPES), rated._replace(mos=rated.mos[1:]), examples, *OPTIONS, RECIPE)
    with pytest.raises(ValueError, match="equal lengths"):
        fit(DeductionHead(TYPES), rated, examples._replace(types=examples.types[1:]), *OPTIONS, RECIPE)


def test_drops_follow_the_human_means_and_grow_with_severity():
    for name in ("jpeg", "motion_blur", "high_sharpen"):
        levels = deduction_levels(name)
        np.testing.assert_allclose([drop_at(name, level) for level in levels], [drop(name, i) for i in range(5)])
    for name in NAMES:
        if name not in MEANS:
            drops = [drop_at(name, severity) for severity in np.linspace(0, 1, 9)]
            assert drops[0] == 0 and np.all(np.diff(drops) > 0)


def deduction_levels(name):
    from driqa_jax.degradations.registry import find

    return find(name).kadid_levels


@pytest.mark.parametrize("kind", ["rated", "clean", "focus", "file", "noise", "dark"])
def test_an_example_depends_on_its_number_alone(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (384, 512, 3), dtype=np.uint8)
    photo = drawn.Photo("a", lambda: Image.fromarray(pixels), 0.9)
    pool = drawn.Pool.of([photo], [photo])
    made = [drawn.draw(kind, number, pool) for number in range(6)]
    for number, one in enumerate(made):
        np.testing.assert_array_equal(one.image, drawn.draw(kind, number, pool).image)
        assert one.image.dtype == np.uint8 and 0 <= one.drop < 1 and (one.drop > 0) == (one.type >= 0)
        assert one.area is None or 0 < one.area.mean() < 1
    assert len({one.image.tobytes() for one in made}) > 1


def test_some_clean_photographs_have_two_bars():
    pixels = np.random.default_rng(0).integers(60, 180, (384, 512, 3), dtype=np.uint8)
    pool = drawn.Pool.of([drawn.Photo("a", lambda: Image.fromarray(pixels), 0.9)], [])
    barred = 0
    for number in range(60):
        image = np.float32(drawn.draw("clean", number, pool).image)
        for ends in ((image[:3], image[-3:]), (image[:, :3], image[:, -3:])):
            levels = [end.mean() for end in ends]
            if max(end.std() for end in ends) < 3 and (max(levels) < 10 or min(levels) > 245):
                barred += 1
    assert 2 <= barred <= 16


def test_masks_cover_a_part_of_the_image():
    shares = [(drawn.mask(np.random.default_rng(seed), 96, 128) > 0.5).mean() for seed in range(40)]
    assert min(shares) > 0.02 and max(shares) < 0.75 and np.mean(shares) > 0.15
