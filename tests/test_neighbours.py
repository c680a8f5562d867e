"""Near neighbours: repeats and mirror images are found, strangers are not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from driqa_jax.data import neighbours


def scene(seed, side=256):
    """A smooth random picture: unlike any other seed's at every size."""
    rough = np.random.default_rng(seed).random((side, side, 3))
    smooth = gaussian_filter(rough, (side / 16, side / 16, 0))
    low, high = smooth.min(), smooth.max()
    return Image.fromarray(np.uint8(255 * (smooth - low) / (high - low)))


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def groups(*images):
    return neighbours.clusters(map(neighbours.describe, images)).tolist()


def test_a_description_is_a_unit_vector_without_its_mean():
    described = neighbours.describe(encoded(scene(0)))
    assert described.shape == (256,) and described.dtype == np.float32
    assert np.linalg.norm(described) == pytest.approx(1, abs=1e-5) and described.sum() == pytest.approx(
        0, abs=1e-4
    )


def test_repeats_are_found_under_another_size_quality_format_and_brightness():
    one = scene(1)
    brighter = Image.fromarray(np.uint8(np.asarray(one) * 0.6 + 60))
    repeats = [
        encoded(one, quality=20),
        encoded(one.resize((100, 100))),
        encoded(one, "PNG"),
        encoded(one.convert("L")),
        encoded(brighter),
        encoded(one.crop((4, 4, 252, 252))),
    ]
    assert groups(encoded(one), *repeats) == [0] * 7


def test_mirror_images_are_found():
    one = scene(2)
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    upside_down = one.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert groups(encoded(one), encoded(mirrored), encoded(upside_down)) == [0, 0, 2]


def test_strangers_stay_apart():
    assert groups(*(encoded(scene(seed)) for seed in range(8))) == list(range(8))


def test_flat_pictures_are_no_neighbours_of_anything():
    grey, white = (encoded(Image.new("RGB", (64, 64), (value,) * 3)) for value in (90, 255))
    assert groups(grey, white, grey, encoded(scene(0))) == [0, 1, 2, 3]


def test_neighbours_of_neighbours_are_one_cluster_over_block_bounds(monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 2)
    angle = np.deg2rad(12)  # two steps apart correlate .91, below the threshold; one step .978, above
    base = np.linalg.qr(np.random.default_rng(0).standard_normal((256, 4)))[0].T
    chain = [np.cos(k * angle) * base[0] + np.sin(k * angle) * base[1] for k in range(4)]
    assert chain[0] @ chain[2] < neighbours.THRESHOLD < chain[0] @ chain[1]
    rows = [base[2], chain[3], chain[1], base[3], chain[2], chain[0]]
    assert neighbours.clusters(rows).tolist() == [0, 1, 1, 3, 1, 1]
