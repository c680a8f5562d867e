"""Haze and low light against their formulas in numpy."""

import functools

import jax
import numpy as np
import pytest
from skimage import data

from driqa_jax.degradations import apply
from driqa_jax.degradations.camera import haze_scene

KEY = jax.random.key(2)


def linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("severity", [0.2, 1.0])
def test_haze_is_koschmieders_law(severity):
    photo = data.coffee()[110:206, 200:328].astype(np.float32) / 255
    depth, airlight = (np.asarray(part, np.float64) for part in haze_scene(KEY, photo.shape[:2]))
    transmission = np.exp(-2.0 * severity**1.5 * depth)[..., None]
    hazy = linear(photo.astype(np.float64)) * transmission + airlight * (1 - transmission)
    ours = jax.jit(functools.partial(apply, "haze"))(KEY, photo, severity)
    np.testing.assert_allclose(ours, srgb(hazy), atol=2e-6)


def test_a_scene_is_smooth_within_its_range_and_differs_between_keys():
    scene = jax.jit(jax.vmap(lambda key: haze_scene(key, (96, 128))))
    depths, airlights = (np.asarray(part) for part in scene(jax.random.split(KEY, 16)))
    assert depths.min() >= 0.3 and depths.max() <= 1.0 and airlights.min() > 0.55 and airlights.max() < 0.95
    # The steepest place: smoothstep's slope of 1.5 over half a side, over 0.7.
    assert np.abs(np.diff(depths, axis=1)).max() < 1.6 * 0.7 / 47.5
    assert np.abs(np.diff(depths, axis=2)).max() < 1.6 * 0.7 / 63.5
    assert depths.std(axis=0).min() > 0.03 and airlights.std(axis=0).min() > 0.03
    assert (np.ptp(depths, axis=(1, 2)) > 0.05).all()
