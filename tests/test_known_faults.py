"""The benchmark of known faults: what it makes, and what its figures say of a model that is right, blind or wrong."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import where
from benchmarks.where import Case, Seen
from driqa_jax.errors import UserError
from experiments.deduction.human_scale import MEANS

LEFT = np.zeros((64, 64), bool)
LEFT[:, :32] = True
PLAIN = np.zeros((64, 64, 3), np.uint8)


def values(made, seen):
    return {(measure, fault): figure.value for measure, fault, _, figure in where.rows(made, seen)}


def of(measure, fault, map_, score=70.0, groups=(), area=None):
    made = [Case("photo", "", "a", PLAIN), Case(measure, fault, "a", PLAIN, area)]
    return values(made, [Seen(80.0, np.full((4, 4), 80.0), ()), Seen(score, np.asarray(map_, float), list(groups))])


def test_a_map_that_is_lower_in_the_worse_half_has_its_gap_and_a_flat_one_has_none():
    map_ = np.full((4, 4), 78.0)
    map_[:, :2] = 60.0
    found = of("half", "noise", map_, area=LEFT)
    assert found["worse half found", "noise"] == found["worse half found", "all"] == 1
    assert found["gap of the halves, points", "noise"] == pytest.approx(18)
    assert found["change of the sound half, points", "noise"] == pytest.approx(-2)
    flat = of("half", "noise", np.full((4, 4), 78.0), area=LEFT)
    assert flat["worse half found", "noise"] == 0 and flat["gap of the halves, points", "all"] == pytest.approx(0)


def test_patch_auc_is_one_for_the_right_map_one_half_for_a_flat_one_and_zero_for_the_inverse():
    right = np.full((4, 4), 80.0)
    right[:, :2] = 50.0
    for map_, expected in ((right, 1.0), (np.full((4, 4), 5.0), 0.5), (-right, 0.0)):
        assert of("blob", "blur", map_, area=LEFT)["patch AUC", "blur"] == expected


def test_names_and_lost_points_count_as_the_measure_says():
    assert of("named", "camera_shake", [[70.0]], groups=["blur", "noise"])[
        "visible fault: its group is first", "other types"
    ]
    assert not of("named", "jpeg", [[70.0]], groups=["blur"])["visible fault: its group is first", "KADID-10k's types"]
    found = of("damage", "stripe", [[70.0]], score=70.1, groups=["color", "damage"])
    assert found["damaged: 10 points lower", "all"] == 0 and found["damaged: named so", "stripe"] == 1
    assert of("damage", "stripe", [[70.0]], score=69.9)["damaged: 10 points lower", "all"] == 1
    assert of("ordinary", "", [[70.0]])["ordinary output: nothing named", "all"] == 1
    assert of("ordinary", "", [[70.0]], groups=["blur"])["ordinary output: nothing named", "all"] == 0
    assert of("noisy", where.REAL, [[70.0]], groups=["noise"])["noise named", where.REAL] == 1
    assert of("noisy", "mean of many", [[70.0]], groups=["noise"])["noise not named", "mean of many"] == 0


def test_real_photographs_are_named_right_by_any_group_that_a_person_would_name_first(tmp_path):
    real = "real photo: first named as by a viewer"
    assert of("labeled", "blur noise", [[70.0]], groups=["noise", "color"])[real, "a fault"] == 1
    assert of("labeled", "blur", [[70.0]], groups=["noise", "blur"])[real, "a fault"] == 0
    assert of("labeled", "none", [[70.0]])[real, "nothing"] == 1
    assert of("labeled", "blur none", [[70.0]])[real, "nothing or a fault"] == 1
    assert of("labeled", "none", [[70.0]], groups=["blur"])[real, "all"] == 0
    Image.fromarray(PLAIN).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,groups\na.png,blur none\n")
    (case,) = where.labeled(tmp_path / "labels.csv", tmp_path)
    assert case.fault == "blur none" and case.image.shape == PLAIN.shape
    (tmp_path / "labels.csv").write_text("image,mos\na.png,1\n")
    with pytest.raises(UserError, match="groups"):
        list(where.labeled(tmp_path / "labels.csv", tmp_path))


def test_faults_lie_in_their_area_alone_and_equal_photographs_give_equal_cases():
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    first, again = (list(where.cases({"a": photo}, named=0)) for _ in range(2))
    assert {case.measure for case in first} == {"photo", "half", "blob", "ordinary", "damage"}
    for case, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(case.image, same.image)
        if case.area is not None:
            differs = (case.image != photo).any(axis=2)
            assert not differs[~case.area].any() and differs[case.area].mean() > 0.5
        if case.measure == "damage":
            assert (case.image != photo).any(axis=2).mean() > 0.02


def test_only_what_people_see_is_asked_for():
    visible = where.visible()
    assert "mean_shift" not in visible and "camera_noise" in visible and len(visible["gaussian_blur"]) == 3
    assert min(MEANS["quantization"]) < 3.5 and len(visible["quantization"]) == 2


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no pair \*_real.JPG"):
        list(where.noisy(tmp_path))
