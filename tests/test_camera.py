"""Haze, exposure, flare, white balance and camera noise against their formulas in numpy and scipy."""

import functools

import jax
import numpy as np
import pytest
import scipy.ndimage
from skimage import data

from driqa_jax.degradations import apply, camera
from driqa_jax.degradations.camera import haze_scene
from driqa_jax.degradations.compression import jpeg_at_quality, jpeg_quality

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


def photo(side: int = 96) -> np.ndarray:
    return data.coffee()[110 : 110 + side, 200:328].astype(np.float32) / 255


once = jax.jit(apply, static_argnums=0)


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_underexposure_loses_stops_and_rounds_shadows(severity):
    light = np.maximum(linear(photo().astype(np.float64)) * 2 ** (-3.5 * severity) - 0.002 * severity, 0)
    step = severity / 500
    ours = linear(np.asarray(once("underexposed", KEY, photo(), severity), np.float64))
    # Rounding to steps: no value is farther than half a step, and all are multiples.
    assert np.abs(ours - light).max() <= step / 2 + 1e-5
    np.testing.assert_allclose(ours / step, np.round(ours / step), atol=2e-2)
    assert (ours == 0).any()


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_overexposure_gains_stops_and_clips(severity):
    light = np.minimum(linear(photo().astype(np.float64)) * 2 ** (2.5 * severity), 1)
    assert (light == 1).any()
    np.testing.assert_allclose(once("overexposed", KEY, photo(), severity), srgb(light), atol=1e-5)


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_flare_replaces_a_share_of_the_light(severity):
    veil, source = (np.asarray(part, np.float64) for part in camera.flare_scene(KEY, (96, 128)))
    share = (veil * severity**1.5)[..., None]
    expected = srgb(linear(photo().astype(np.float64)) * (1 - share) + share * source)
    np.testing.assert_allclose(once("flare_haze", KEY, photo(), severity), expected, atol=1e-5)


def test_a_flare_comes_from_one_side():
    keys = jax.random.split(KEY, 16)
    veils, sources = (np.asarray(part) for part in jax.vmap(lambda key: camera.flare_scene(key, (96, 128)))(keys))
    assert veils.min() >= 0.2 and veils.max() <= 0.9 and veils.max(axis=(1, 2)).min() > 0.8
    brightest = np.array([np.unravel_index(veil.argmax(), veil.shape) for veil in veils]) / [96, 128] - 0.5
    assert (np.hypot(*brightest.T) > 0.4).all() and brightest.std(axis=0).min() > 0.15
    assert np.ptp(veils, axis=(1, 2)).min() > 0.3
    assert sources.max() == 1 and sources.min() >= 0.7 and (np.diff(sources, axis=1) <= 0).all()


def test_a_cast_scales_channels_and_keeps_the_luminance_of_gray():
    gray = np.full((32, 32, 3), 0.4, np.float32)
    reds, greens = [], []
    for seed in range(12):
        angle = 2 * np.pi * np.asarray(jax.random.uniform(jax.random.key(seed)), np.float64)
        stops = np.cos(angle) * np.array([0.9, 0, -1.1]) + np.sin(angle) * np.array([-0.5, 0.5, -0.5])
        gains = 2 ** (0.6 * stops)
        gains /= gains @ [0.2126, 0.7152, 0.0722]
        for image in (photo(), gray):
            expected = srgb(np.minimum(linear(image.astype(np.float64)) * gains, 1))
            np.testing.assert_allclose(once("color_cast", jax.random.key(seed), image, 0.6), expected, atol=1e-5)
        reds.append(np.log2(gains[0] / gains[2]))
        greens.append(np.log2(gains[1] / np.sqrt(gains[0] * gains[2])))
    assert np.ptp(reds) > 1.5 and np.ptp(greens) > 0.6


def develop(image: np.ndarray, raw_noise: np.ndarray, severity: float) -> np.ndarray:
    """The development of `camera_noise` before JPEG, with scipy."""
    light = linear(image.astype(np.float64))
    raw = np.asarray(camera.mosaic(image.astype(np.float32)), np.float64)
    raw = linear(raw)
    noisy_raw = raw + np.sqrt(0.08 * raw + 0.02**2) * raw_noise
    rows, columns = np.indices(raw.shape) % 2
    planes = []
    for keep in ((rows == 0) & (columns == 0), rows != columns, (rows == 1) & (columns == 1)):
        # Bilinear demosaicking is normalized convolution of the samples with a tent.
        tent = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
        if keep[0, 1]:
            tent = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]])
        planes.append(scipy.ndimage.convolve(np.where(keep, noisy_raw, 0), tent, mode="mirror"))
    noisy = srgb(np.clip(light + severity * (np.stack(planes, -1) - light), 0, 1))
    luma = noisy @ [0.299, 0.587, 0.114]
    chroma = scipy.ndimage.gaussian_filter(
        noisy - luma[..., None], (4 * severity, 4 * severity, 0), mode="reflect", radius=(12, 12, 0)
    )
    mean = scipy.ndimage.uniform_filter(luma, 9, mode="reflect")
    spread = np.maximum(scipy.ndimage.uniform_filter(luma**2, 9, mode="reflect") - mean**2, 0)
    variance = (0.1 * severity) ** 2
    clean = luma - variance / np.maximum(spread, variance) * (luma - mean)
    clean = clean[..., None] + chroma
    detail = clean @ [0.299, 0.587, 0.114]
    detail = detail - scipy.ndimage.gaussian_filter(detail, 1.2, mode="reflect", radius=5)
    return np.clip(clean + 1.5 * severity * detail[..., None], 0, 1)


@pytest.mark.parametrize("severity", [0.4, 1.0])
def test_camera_noise_is_noise_developed(severity):
    draw = np.asarray(jax.random.normal(KEY, (96 * 128,)), np.float64).reshape(96, 128)
    developed = develop(photo(), draw, severity)
    quality = float(jpeg_quality(0.45 * severity))
    expected = np.asarray(jax.jit(jpeg_at_quality)(np.float32(developed), quality))
    ours = np.asarray(once("camera_noise", KEY, photo(), severity))
    # JPEG may round a few coefficients the other way.
    assert np.abs(ours - expected).mean() < 2e-3 and np.median(np.abs(ours - expected)) == 0


def test_camera_noise_is_blotchy():
    """Neighbors are correlated, chroma more widely than luma; the noise of the sensor is white per site."""
    gray = np.full((128, 128, 3), 0.4, np.float32)
    noise = np.asarray(once("camera_noise", KEY, gray, 0.8), np.float64) - 0.4
    red = noise[..., 0] - noise[..., 1]
    luma = noise @ [0.299, 0.587, 0.114]

    def correlation(field: np.ndarray, lag: int) -> float:
        field = field - field.mean()
        return float((field * np.roll(field, lag, axis=1)).mean() / field.var())

    assert correlation(luma, 1) > 0.3 and correlation(red, 3) > 0.5 and correlation(red, 3) > correlation(luma, 3)
    assert luma.std() > 0.01 and red.std() > 0.01
