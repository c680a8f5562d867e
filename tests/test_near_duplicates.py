"""Near duplicates: repeats and mirror images are found, strangers are not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from driqa_jax.data import near_duplicates


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
    return near_duplicates.clusters(map(near_duplicates.describe, images)).tolist()


def test_a_description_is_a_unit_vector_of_144():
    described = near_duplicates.describe(encoded(scene(0)))
    assert described.shape == (144,) and described.dtype == np.float32
    assert np.linalg.norm(described) == pytest.approx(1, abs=1e-5)


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


def test_flat_pictures_are_no_neighbors_of_anything():
    gray, white = (encoded(Image.new("RGB", (64, 64), (value,) * 3)) for value in (90, 255))
    assert groups(gray, white, gray, encoded(scene(0))) == [0, 1, 2, 3]


def test_exposures_of_one_scene_are_found_and_horizons_are_not():
    """What plain thumbnails confuse: in them any two bright skies over dark land correlate above .95."""
    one = np.asarray(scene(5), float)
    dark, burnt = (Image.fromarray(np.uint8(np.clip(one * gain, 0, 255))) for gain in (0.3, 1.8))
    sky = 75 + 75 * np.cos(np.linspace(0, np.pi, 256))[:, None, None]
    skies = [Image.fromarray(np.uint8(sky + np.asarray(scene(seed)) * 0.35)) for seed in (6, 7)]
    plain = [np.asarray(image.convert("L").resize((16, 16)), float).ravel() for image in skies]
    assert np.corrcoef(plain)[0, 1] > 0.95
    assert groups(*map(encoded, [scene(5), dark, burnt, *skies])) == [0, 0, 0, 3, 4]


def chain(step, count, size=144):
    """Unit vectors on an arc, neighbors `step` degrees apart, that no mirroring changes; two strangers."""
    base = np.linalg.qr(np.random.default_rng(0).standard_normal((size // 2, 4)))[0].T
    even = np.zeros((4, 12, 12))
    even[:, :, ::2] = base.reshape(4, 12, 6)
    base = even.reshape(4, size)
    angles = np.deg2rad(step) * np.arange(count)
    return [np.cos(a) * base[0] + np.sin(a) * base[1] for a in angles], base[2:]


def test_near_duplicates_of_near_duplicates_are_one_cluster_over_block_bounds(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_ROWS", 2)
    links, strangers = chain(30, 4)  # one step apart they correlate .87, two .5
    assert links[0] @ links[2] < near_duplicates.THRESHOLD < links[0] @ links[1]
    rows = [strangers[0], links[3], links[1], strangers[1], links[2], links[0]]
    assert near_duplicates.clusters(rows).tolist() == [0, 1, 1, 3, 1, 1]


def test_a_chain_longer_than_allowed_is_parted_where_its_links_are_weakest():
    tight, _ = chain(6, 4)  # .995 a step
    links = [*tight, *(chain(6, 10)[0][6 + k] for k in range(4))]  # one weak link of three steps, .951
    assert near_duplicates.clusters(links).tolist() == [0] * 8
    assert near_duplicates.clusters(links, largest=4).tolist() == [0] * 4 + [4] * 4


def test_an_image_above_pillows_own_limit_is_described(monkeypatch):
    image = encoded(scene(1), "PNG")
    expected = near_duplicates.describe(image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(near_duplicates.describe(image), expected)
