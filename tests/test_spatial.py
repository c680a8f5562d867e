"""Jitter, patches and blocks against plain numpy and scipy, given the same draws."""

import functools

import jax
import numpy as np
import scipy.ndimage
from skimage import data

from driqa_jax.degradations import apply

once = jax.jit(apply, static_argnums=0)


@functools.cache
def photo() -> np.ndarray:
    """A crop of a photograph, float32 (97, 130, 3)."""
    return data.coffee()[100:197, 200:330].astype(np.float32) / 255


def test_jitter_is_scipys_interpolation():
    key = jax.random.key(5)
    moves = 5**0.5 * 0.4 * np.asarray(jax.random.normal(key, (2, 97, 130)), np.float64)
    assert np.hypot(*moves).max() > 2
    ours = np.asarray(once("jitter", key, photo(), 0.4))
    for channel in range(3):
        expected = scipy.ndimage.map_coordinates(
            photo()[..., channel].astype(np.float64), np.mgrid[:97, :130] + moves, order=1, mode="nearest"
        )
        np.testing.assert_allclose(ours[..., channel], expected, atol=1e-4)


def test_patches_are_copied_one_after_another():
    key = jax.random.key(6)
    k_place, k_move = jax.random.split(key)
    most = round(97 * 130 * 200 / (512 * 384))
    places = 8 + np.floor(np.asarray(jax.random.uniform(k_place, (most, 2))) * [97 - 31, 130 - 31]).astype(int)
    moves = np.asarray(jax.random.randint(k_move, (most, 2), -8, 9))
    for severity, count in ((0.5, -(-most // 2)), (1.0, most)):
        expected = photo().copy()
        for (y, x), (down, right) in zip(places[:count], moves[:count], strict=True):
            expected[y + down : y + down + 16, x + right : x + right + 16] = expected[y : y + 16, x : x + 16].copy()
        ours = np.asarray(once("non_eccentricity_patch", key, photo(), severity))
        np.testing.assert_array_equal(ours, expected)


def test_blocks_cover_squares_with_one_color():
    key = jax.random.key(7)
    k_place, k_color = jax.random.split(key)
    places = np.floor(np.asarray(jax.random.uniform(k_place, (10, 2))) * [97 - 7, 130 - 7]).astype(int)
    colors = np.asarray(jax.random.uniform(k_color, (10, 3)))
    for severity, count in ((0.2, 2), (1.0, 10)):
        expected = photo().copy()
        for (y, x), color in zip(places[:count], colors, strict=False):
            expected[y : y + 8, x : x + 8] = color
        np.testing.assert_array_equal(np.asarray(once("color_block", key, photo(), severity)), expected)
