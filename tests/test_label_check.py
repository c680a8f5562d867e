"""The check of the labels: independent versions of KADID-10k's cells, and what the report says of two that differ."""

import numpy as np
import pytest
from PIL import Image

from experiments.deduction import label_check
from experiments.deduction.human_scale import LEVELS, MEANS, UNMATCHED
from experiments.deduction.label_check import Measured

pytest.importorskip("skimage", reason="needs the extra protocol")


def photo(height=96, width=128):
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def cells():
    made = list(label_check.versions(photo(), "a"))
    return dict(zip(MEANS, (made[i : i + LEVELS] for i in range(0, len(made), LEVELS)), strict=True))


def test_every_cell_is_an_image_and_equal_names_give_equal_ones(cells):
    assert list(label_check.PARAMETERS) == list(label_check._MAKERS) == list(MEANS)
    for made in cells.values():
        assert [each.shape for each in made] == [(96, 128, 3)] * LEVELS and made[0].dtype == np.uint8
    again = list(label_check.versions(photo(), "a"))
    np.testing.assert_array_equal(again[-1], cells["contrast_change"][-1])
    np.testing.assert_array_equal(again[12], cells["motion_blur"][2])


def test_damage_grows_with_the_level(cells):
    image = np.float64(np.rint(255 * label_check._stretched(photo() / 255)))
    for kind, made in cells.items():
        damage = [np.abs(each - image).mean() for each in made]
        if kind not in (*UNMATCHED, "color_saturation_1"):
            assert damage[4] > 1.5 * damage[0], kind
            assert np.all(np.diff(damage) > -0.05 * damage[4]), kind


def test_kernels_and_curves_are_those_of_the_generator():
    np.testing.assert_allclose(label_check._line(1, 0.7).max(), 1.0)
    np.testing.assert_allclose(label_check._line(3, 0.0).max(axis=0)[1:-1], [0, 1 / 3, 1 / 3, 1 / 3, 0][0:5], atol=1e-9)
    disc = label_check._disc(4)
    assert disc.shape == (9, 9) and disc[4, 4] == pytest.approx(1 / (16 * np.pi), rel=0.01) and disc[0, 0] == 0
    np.testing.assert_allclose(label_check._curved(np.array([0, 0.5, 1]), 0.4), [0, 0.7, 1], atol=1e-9)
    bent = label_check._contrasted(None, np.array([0, 0.3, 0.5, 0.7, 1]), 0.3)
    np.testing.assert_allclose(bent, [0, 0.175, 0.5, 0.825, 1], atol=1e-9)


def test_thresholds_separate_the_classes_best():
    values = np.repeat([10, 12, 100, 104, 240], [50, 50, 30, 30, 40]) / 255
    low, high = 255 * label_check._thresholds(values, 2)
    assert 12 < low < 100 and 104 < high < 240
    image = np.linspace(0, 1, 256)[:, None, None].repeat(3, axis=2)
    assert len(np.unique(label_check._quantized(None, image, 7))) == 8


def test_the_report_says_which_types_differ_and_how_gmsd_orders_the_cells():
    means = np.array(list(MEANS.values()))[None].repeat(2, axis=0)
    gmsd, psnr = 0.3 * (5 - means) / 4, 10 * means
    other = gmsd.copy()
    kinds = list(MEANS)
    other[:, kinds.index("jpeg"), 4] += 0.1
    other[:, kinds.index("pixelate")] += 0.2
    text = label_check.report(Measured(gmsd, other, psnr, psnr + 3))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["gaussian_blur", "yes", "5", "0"] in lines and ["jpeg", "in part", "4", "0"] in lines
    assert ["pixelate", "no", "0", "0"] in lines and ["denoise", "not judged", "5", "0"] in lines
    assert ["all types", "125", "1.000"] in [line[:3] for line in lines]
    assert ["jpeg", "5", "1.35", "0.274", "0.374", "13.5", "16.5"] in lines and "2 photographs" in text


def test_both_versions_of_a_photograph_are_measured(monkeypatch):
    image = photo()
    monkeypatch.setattr(label_check, "degraded", lambda photo, name: iter([photo] * 125))
    monkeypatch.setattr(label_check, "versions", lambda photo, name: iter([255 - photo] * 125))
    found = label_check.measure({"a": image})
    assert found.gmsd.shape == (1, 25, 5) and found.gmsd.max() < 1e-6 and found.psnr.min() > 70
    assert found.other_psnr.max() < 20
