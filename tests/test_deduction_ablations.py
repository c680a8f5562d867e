"""The ablations of the form "deduction": each row leaves out what it says, and the tables come from its figures."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from test_deduction_fit import CELLS, MOMENTS, TILES, TYPES, WIDTH, planted

from benchmarks.where import Case
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate
from driqa_jax.evaluation.tables import to_markdown
from driqa_jax.models.deduction import DeductionHead, Places
from driqa_jax.progress import silent
from experiments.deduction import __main__ as experiment
from experiments.deduction import ablations, teacher, training
from experiments.deduction.drops import fit_drops
from experiments.deduction.human_scale import LEVELS, MEANS

pytestmark = pytest.mark.long
RECIPE = training.Recipe(epochs=2, batch=16, steps=3)
HEAD = DeductionHead(TYPES, level_width=8, drop_width=8, level_dropout=0.0)
NAMES = ("motion_blur", "white_noise", "jpeg")
BOXES = np.float32([[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]])


def arrays(rng, side=4):
    shapes = {"moments": (MOMENTS,), "cells": (side, side, CELLS), "vector": (TILES, WIDTH)}
    return {**{name: np.float16(rng.normal(size=shape)) for name, shape in shapes.items()}, "boxes": BOXES}


def measured_on(rng):
    area = np.zeros((128, 128), bool)
    area[:, :64] = True
    cases = [
        Case("blob", "blur", "a", None, area),
        Case("named", "jpeg", "a", None),
        Case("named", "camera_shake", "a", None),
    ]
    human = [arrays(rng) for _ in range(1 + len(MEANS) * LEVELS)]
    return ablations.Evaluation(
        [arrays(rng) for _ in range(6)], np.arange(6.0), human, cases, [arrays(rng) for _ in cases]
    )


@pytest.fixture(scope="module")
def given():
    """A level, which no test needs to be good, and examples."""
    _, examples = planted(60)
    params = HEAD.init(jax.random.key(0), np.zeros((1, MOMENTS)), method="level")["params"]
    return {name: params[name] for name in ablations.LEVEL}, examples


@pytest.fixture(scope="module")
def trained(given):
    """Parameters of each class of `ROWS` after a few steps."""
    kinds = {row.trained: row.wider for row in ablations.ROWS.values()}
    return {
        kind: fit_drops(ablations.of_kind(kind, HEAD, wider), *given, [1.0] * TYPES, RECIPE)
        for kind, wider in kinds.items()
    }


def logits(kind, params, examples, wider=1, **changed):
    head = ablations.of_kind(kind, HEAD, wider)
    given = examples._replace(**changed)
    places = Places(given.near, given.central, np.ones(given.central.shape, bool))
    return np.asarray(head.apply({"params": params}, given.cells, given.vectors, places, method="drop_logits"))


def test_a_row_does_not_read_what_it_leaves_out(given, trained):
    examples = given[1]
    other = {"vectors": examples.vectors[::-1]}
    moved = {"cells": np.concatenate([examples.cells[:, :1], 2 * examples.cells[:, :0:-1]], axis=1)}
    for kind, blind_to in (
        (ablations.WithoutVectors, "vectors"),
        (ablations.WithoutImage, "image"),
        (DeductionHead, ""),
    ):
        before = logits(kind, trained[kind], examples)
        equal = {"vectors": np.allclose(before, logits(kind, trained[kind], examples, **other), atol=1e-6)}
        equal["image"] = np.allclose(before[:, 0], logits(kind, trained[kind], examples, **moved)[:, 0], atol=1e-6)
        assert [name for name, same in equal.items() if same] == [blind_to] * bool(blind_to), kind


def test_without_interaction_the_losses_of_cells_and_vectors_are_added(given, trained):
    examples = given[1]
    assert trained[ablations.WithoutInteraction]["drop_out"]["kernel"].shape == (2 * HEAD.drop_width, TYPES)
    one = {
        name: np.broadcast_to(getattr(examples, name)[:1], getattr(examples, name).shape)
        for name in ("cells", "vectors")
    }

    def excess(kind, wider):
        """What the loss under both changes differs from the sum of those under each."""
        parts = ({}, {"cells": one["cells"]}, {"vectors": one["vectors"]}, one)
        a, b, c, d = (np.logaddexp(0, logits(kind, trained[kind], examples, wider, **part)) for part in parts)
        return np.abs(a - b - c + d).max()

    assert excess(ablations.WithoutInteraction, 2) < 1e-5
    assert excess(DeductionHead, 1) > 1e-4


def test_product_and_level_alone_are_other_formulas_of_the_same_drops():
    level, keep = np.float32([0.4, 0.8]), np.float32([1.0, 0.5])
    product, alone = (
        ablations.of_kind(kind, HEAD).apply({}, level, keep, method="capped")
        for kind in (ablations.Product, ablations.LevelAlone)
    )
    np.testing.assert_allclose(product, [0.4, 0.8 * (0.05 + 0.4) / 0.85], rtol=1e-6)
    np.testing.assert_array_equal(alone, level)


def test_the_figures_of_a_seed_train_each_class_once(given, trained, monkeypatch):
    calls = []

    def refit(head, level, examples, weights, recipe):
        calls.append((type(head), recipe.seed, head.drop_width))
        return trained[type(head)]

    monkeypatch.setattr(ablations, "fit_drops", refit)
    images, recipe = measured_on(np.random.default_rng(0)), dataclasses.replace(RECIPE, seed=5)
    found = ablations.figures(HEAD, *given, images, recipe, 1, types=NAMES, weights=[1.0] * TYPES)
    assert [call[1:] for call in calls] == [(5, 8), (5, 8), (5, 16), (5, 8)] and len({call[0] for call in calls}) == 4
    assert {name: len(runs) for name, runs in found.items()} == dict.fromkeys(ablations.ROWS, 1)
    alone, whole, product = (found[name][0] for name in ("level alone", "whole", "product of level and ceiling"))
    assert list(alone.values())[3:] == [None] * 3 and None not in whole.values()
    named = [figure for figure in ablations.FIGURES if figure.startswith("right")]
    assert [whole[name] for name in named] == [product[name] for name in named]


def test_the_table_says_how_short_the_refits_are_and_how_far_seeds_lie_apart():
    runs = [dict.fromkeys(ablations.FIGURES, value) for value in (0.5, 0.7)]
    found = {"whole": runs, "level alone": [{**runs[0], "patch AUC": None}] * 2, "not run": []}
    table = ablations.parts_table(found, RECIPE, 60, measured_on(np.random.default_rng(0)))
    assert "3 steps" in table.title and "2 seeds" in table.title and "6 real photos, 1 photographs" in table.title
    whole, alone = table.rows
    assert (
        whole[0] == "whole"
        and whole[1].value == pytest.approx(0.6)
        and whole[1].spread == pytest.approx(0.1414, abs=1e-4)
    )
    assert alone[1].spread is None and alone[4] == "none"
    assert "0.600 ± 0.141" in to_markdown(table)


def test_each_type_is_scored_by_drops_that_saw_no_example_of_it(given, trained, monkeypatch):
    learned = []

    def refit(head, level, examples, weights, recipe):
        assert (examples.types == -1).sum() == (given[1].types == -1).sum()
        learned.append((type(head), {NAMES[place] for place in examples.types if place >= 0}))
        return {**trained[type(head)], "fold": len(learned)}

    def read(head, params):
        assert type(head) is learned[params["fold"] - 1][0]
        return lambda each: {"mos": float(params["fold"])}

    monkeypatch.setattr(ablations, "fit_drops", refit)
    monkeypatch.setattr(ablations, "reader", read)
    agreed = []
    monkeypatch.setattr(ablations, "agreement", lambda cells, *_, **__: agreed.append(cells) or Estimate(0.5))
    images = measured_on(np.random.default_rng(0))
    table = ablations.types_table(HEAD, *given, images, RECIPE, types=NAMES, weights=[1.0] * TYPES)
    assert [row[0] for row in table.rows] == ["whole", "without degradation vectors"] and len(learned) == 10
    assert [kind for kind, _ in learned] == [DeductionHead] * 5 + [ablations.WithoutVectors] * 5 and len(agreed) == 4
    for cells in agreed:
        for place in range(len(MEANS)):
            (fold,) = set(cells[0, place].astype(int) - 1)
            assert learned[fold][1] == set(NAMES) - set([*MEANS][place % 5 :: 5])
    kept = ablations.without(given[1], ["jpeg"], NAMES)
    assert len(kept.kinds) == (given[1].types != NAMES.index("jpeg")).sum() and (kept.types == -1).any()


def test_a_kernel_ridge_finds_a_curve_and_a_sum_of_kernels_reads_both_kinds():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 300, 2))
    y = np.sin(2 * a[:, 0]) + b[:, 1] ** 2
    own, other = np.s_[:200], np.s_[200:]
    errors = [
        np.abs(teacher.kernel_ridge([x[own] for x in read], y[own], [x[other] for x in read]) - y[other]).mean()
        for read in ([a], [b], [a, b])
    ]
    assert errors[2] < 0.2 < min(errors[:2])


def test_sources_and_vectors_have_their_tables():
    rated, examples = planted(80)
    names = [f"{'one' if number % 2 else 'two'}-{number}" for number in range(80)]
    table = ablations.cross_source(HEAD, rated, names, ("one", "two"), RECIPE)
    assert [row[:3] for row in table.rows] == [["one to two", 40, 40], ["two to one", 40, 40]]
    assert all(cell.value is not None for row in table.rows for cell in row[3:])
    with pytest.raises(UserError, match="no name begins with three"):
        ablations.cross_source(HEAD, rated, names, ("one", "three"), RECIPE)
    found = ablations.vectors_table(examples, measured_on(np.random.default_rng(1)))
    assert [row[:3] for row in found.rows] == [
        [name, int(sum(examples.kinds == "rated")), 6] for name in ("d", "moments", "moments and d")
    ]


def test_features_of_unlike_shapes_are_kept_and_not_computed_again(tmp_path):
    def seen(image):
        calls.append(image.shape)
        return {"cells": np.zeros((*image.shape[:2], 2), np.float16), "boxes": BOXES}

    calls, images = [], [np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]
    params = {"quality_encoder": {"w": np.zeros(2, np.float32)}}
    for made in (images, images, [images[0], np.ones((4, 2, 3), np.uint8)]):
        found = ablations.Kept(seen, params, tmp_path)("real", [lambda image=image: image for image in made])
        assert [each["cells"].shape[:2] for each in found] == [image.shape[:2] for image in made]
    assert sorted(calls) == [(2, 3, 3), (3, 2, 3), (4, 2, 3)]


def test_only_the_first_examples_of_each_kind_are_drawn(tmp_path):
    class Zeros:
        def read(self, images, names=()):
            return {name: np.zeros(len(images) if name == "photo" else (len(images), 1)) for name in names}

    class Counting:
        def examples(self, kind, count, make, said, progress):
            return Zeros()

    class Rated:
        def __init__(self, *names):
            self.names = names

        def column(self, name):
            return np.array({"image_id": self.names, "mos": [0.9, 0.3]}[name])

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "pristine.png")
    rated, all_of_them = Rated("a.jpg", "b.jpg"), {kind: min(count, 1500) for kind, count in experiment.COUNTS.items()}
    found, tiles = experiment.see_examples(Counting(), rated, str(tmp_path), 0, most=1500)
    assert len(tiles) == len(found.kinds)
    counts = dict(zip(*np.unique(found.kinds, return_counts=True), strict=True))
    assert counts == {kind: count for kind, count in all_of_them.items() if kind != "unrated"}
    assert np.isnan(found.faults).all() and not found.doubtful.any()
    # With photographs without ratings in which somebody looked for faults.
    seen, unlabeled = {"b.jpg": ("none",), "d.jpg": ("blur", "none")}, Rated("c.jpg", "d.jpg")
    found, _ = experiment.see_examples(Counting(), rated, str(tmp_path), 0, silent, 1500, seen, unlabeled)
    counts = dict(zip(*np.unique(found.kinds, return_counts=True), strict=True))
    assert counts == all_of_them
    of_them = found.kinds == "unrated"
    np.testing.assert_array_equal(found.faults[of_them, 0], 1.0)
    np.testing.assert_array_equal(found.doubtful, of_them)
    assert np.isnan(found.faults[~of_them]).all()
