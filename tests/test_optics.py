"""Missed focus and camera shake against scipy, in linear light."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from skimage import data

from driqa_jax.degradations import apply
from driqa_jax.degradations.optics import focus_scene, shake_path
from tests.test_camera import linear, srgb

once = jax.jit(apply, static_argnums=0)


@functools.cache
def photo() -> np.ndarray:
    """A crop of a photograph, float32 (200, 240, 3)."""
    return data.coffee()[100:300, 200:440].astype(np.float32) / 255


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[-9:10, -9:10]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    return (kernel / kernel.sum())[..., None]


@pytest.mark.parametrize("seed", [0, 3])
def test_out_of_focus_mixes_discs_as_the_scene_says(seed):
    key = jax.random.key(seed)
    place = 3 * np.asarray(focus_scene(key, (200, 240)), np.float64)[..., None]
    light = linear(photo().astype(np.float64))
    # 2.5 % of 200 px at severity 1.
    radii = [0.5 + 4.5 * 0.8 * level / 3 for level in range(4)]
    stack = np.stack([scipy.ndimage.convolve(light, disc(radius), mode="reflect") for radius in radii])
    near = np.minimum(np.floor(place), 2).astype(int)
    low, high = (np.take_along_axis(stack, near[None] + step, axis=0)[0] for step in (0, 1))
    expected = srgb(np.clip(low + (place - near) * (high - low), 0, 1))
    np.testing.assert_allclose(once("out_of_focus", key, photo(), 0.8), expected, atol=1e-4)


def test_a_subject_is_sharp_or_blurred_near_the_center():
    scenes = np.asarray(
        jax.jit(jax.vmap(lambda key: focus_scene(key, (96, 128))))(jax.random.split(jax.random.key(0), 32))
    )
    centers, corners = scenes[:, 48, 64], scenes[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert scenes.min() == 0 and scenes.max() == 1 and (np.round(corners) != np.round(centers)[:, None]).all()
    assert 0.2 < centers.mean() < 0.8
    assert np.abs(np.diff(scenes, axis=1)).max() < 0.12


def test_camera_shake_smears_a_point_along_its_path():
    """The moments of a point's image are those of the path; bilinear splatting adds less than 1/4 px^2."""
    point = np.zeros((65, 65, 3), np.float32)
    point[32, 32] = 1
    y, x = np.mgrid[-32:33, -32:33].astype(np.float64)
    directions = []
    for seed in range(4):
        key = jax.random.key(seed)
        points, time = (np.asarray(part, np.float64) for part in shake_path(key))
        assert time.sum() == pytest.approx(1, abs=1e-6) and np.abs(time @ points).max() < 1e-6
        # At severity 1 the chord is 8 px in so small an image; the longest, 21 px, fits into the kernel.
        assert np.abs(points).max() * 21 < 15 and np.hypot(*(points[-1] - points[0])) == pytest.approx(1, abs=0.05)
        light = linear(np.asarray(once("camera_shake", key, point, 1.0), np.float64)[..., 0])
        assert light.sum() == pytest.approx(1, abs=1e-3)
        assert abs((light * y).sum()) < 0.01 and abs((light * x).sum()) < 0.01
        for axis, along in enumerate((y, x)):
            spread = (light * along * along).sum() - 64 * (time * points[:, axis] ** 2).sum()
            assert 0 <= spread < 0.25
        directions.append(np.arctan2(*(points[-1] - points[0])) % np.pi)
        # Curved: the middle is off the chord by more than a tenth of it.
        chord = points[-1] - points[0]
        off = points[32] - (points[0] + points[-1]) / 2
        assert abs(chord[0] * off[1] - chord[1] * off[0]) / np.hypot(*chord) > 0.1
    assert np.ptp(directions) > 0.3


def test_camera_shake_is_scipys_convolution():
    key, severity = jax.random.key(5), 0.7
    points, time = (np.asarray(part, np.float64) for part in shake_path(key))
    kernel = np.zeros((33, 33))
    for (y, x), weight in zip(8 * severity * points + 16, time, strict=True):
        top, left = int(np.floor(y)), int(np.floor(x))
        for row, share in ((top, 1 - y + top), (top + 1, y - top)):
            kernel[row, left] += weight * share * (1 - x + left)
            kernel[row, left + 1] += weight * share * (x - left)
    expected = scipy.ndimage.convolve(linear(photo().astype(np.float64)), kernel[..., None], mode="reflect")
    np.testing.assert_allclose(once("camera_shake", key, photo(), severity), srgb(np.clip(expected, 0, 1)), atol=1e-4)


def test_blurs_grow_with_the_image():
    """In 320 px the disc has a radius of 8 px and the chord is 12.8 px long."""
    key, side = jax.random.key(1), 320
    y, x = np.mgrid[:side, :side].astype(np.float64)
    row, column = np.unravel_index(np.argmax(np.asarray(focus_scene(key, (side, side)))), (side, side))
    row, column = (int(np.clip(place, 60, side - 60)) for place in (row, column))
    image = np.zeros((side, side, 3), np.float32)
    image[row, column] = 1
    assert focus_scene(key, (side, side))[row - 9 : row + 10, column - 9 : column + 10].min() > 0.98
    for name, variance in (("out_of_focus", 8**2 / 4), ("camera_shake", None)):
        light = linear(np.asarray(once(name, key, image, 1.0), np.float64)[..., 0])
        points, time = (np.asarray(part, np.float64) for part in shake_path(key))
        wanted = variance or 12.8**2 * (time * points[:, 0] ** 2).sum()
        found = (light * (y - row) ** 2).sum() / light.sum()
        assert wanted - 0.5 < found < wanted + 1.0, name
