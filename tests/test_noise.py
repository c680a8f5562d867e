"""Noises against their exact moments: mean, variance, shape, whiteness, covariance of channels, dependence on light."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from skimage import color as sk_color
from skimage import data

from driqa_jax.degradations import apply, camera, noise, sharpness
from driqa_jax.degradations.color import srgb_to_linear
from driqa_jax.degradations.registry import find

KEY = jax.random.key(11)
SIDE = 256

once = jax.jit(apply, static_argnums=0)
to_linear = jax.jit(srgb_to_linear)


def noisy_gray(name: str, level: float, severity: float) -> np.ndarray:
    return np.asarray(once(name, KEY, jnp.full((SIDE, SIDE, 3), level), severity), np.float64)


def check_white(field: np.ndarray, sigma: float) -> None:
    """Mean 0, deviation sigma and no correlation of neighbors, each within four standard errors."""
    count = field.size
    assert abs(field.mean()) < 4 * sigma / count**0.5
    kurtosis = (field**4).mean() / (field**2).mean() ** 2
    assert field.std() == pytest.approx(sigma, rel=4 * ((kurtosis - 1) / (4 * count)) ** 0.5)
    for axis in range(field.ndim):
        for lag in (1, 2):
            assert abs((field * np.roll(field, lag, axis=axis)).mean()) < 4 * sigma**2 / count**0.5


def kurtosis_of(field: np.ndarray) -> float:
    return float((field**4).mean() / (field**2).mean() ** 2)


@pytest.mark.parametrize(
    ("name", "full", "variances"),
    [
        ("white_noise", noise.WHITE_SIGMA, (0.001, 0.002, 0.003, 0.005, 0.01)),
        ("white_noise_color_component", noise.COMPONENT_SIGMA, (0.0001, 0.0005, 0.001, 0.002, 0.003)),
        ("multiplicative_noise", noise.SPECKLE_SIGMA, (0.001, 0.005, 0.01, 0.02, 0.05)),
        ("denoise", sharpness.DENOISED_SIGMA, (0.01, 0.03, 0.05, 0.1, 0.15)),
    ],
)
def test_kadid_levels_are_its_variances(name, full, variances):
    found = [(full * severity) ** 2 for severity in find(name).kadid_levels]
    np.testing.assert_allclose(found, variances, rtol=0.02)


def test_impulse_levels_are_kadids_densities():
    found = [noise.IMPULSE_DENSITY * severity for severity in find("impulse_noise").kadid_levels]
    np.testing.assert_allclose(found, (0.001, 0.005, 0.01, 0.02, 0.03), rtol=1e-6)


def test_a_flat_draw_is_the_draw_in_the_images_shape():
    shape = (5, 7, 3)
    ours = jax.jit(lambda key: (noise.normal(key, shape), noise.uniform(key, shape)))(KEY)
    theirs = jax.jit(lambda key: (jax.random.normal(key, shape), jax.random.uniform(key, shape)))(KEY)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_component_noise_is_white_in_ycbcr():
    out = noisy_gray("white_noise_color_component", 0.5, 0.5)
    # scikit-image's Y'CbCr has Y in 16..235, as MATLAB's, in units of 255.
    found = (sk_color.rgb2ycbcr(out) - sk_color.rgb2ycbcr(np.full_like(out, 0.5))) / 255
    sigma = 0.5 * noise.COMPONENT_SIGMA
    for component in range(3):
        check_white(found[..., component], sigma)
        assert kurtosis_of(found[..., component]) == pytest.approx(3.0, abs=4 * (24 / SIDE**2) ** 0.5)
    covariance = np.cov(found.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, sigma**2 * np.eye(3), atol=4 * sigma**2 * (2 / SIDE**2) ** 0.5)
    # In RGB: A A^T, with A the inverse of scikit-image's matrix.
    to_rgb = np.linalg.inv(np.array([sk_color.rgb2ycbcr(c.reshape(1, 1, 3))[0, 0] - [16, 128, 128] for c in np.eye(3)]))
    expected = sigma**2 * 255**2 * to_rgb.T @ to_rgb
    limit = 4 * (2 / SIDE**2) ** 0.5 * np.diag(expected).max()
    np.testing.assert_allclose(np.cov((out - 0.5).reshape(-1, 3).T), expected, atol=limit)


@pytest.mark.parametrize("level", [0.2, 0.6])
def test_speckle_is_uniform_and_in_proportion(level):
    factor = noisy_gray("multiplicative_noise", level, 0.6) / level - 1
    sigma = 0.6 * noise.SPECKLE_SIGMA
    check_white(factor, sigma)
    assert kurtosis_of(factor) == pytest.approx(1.8, abs=0.02)
    assert np.abs(factor).max() == pytest.approx(3**0.5 * sigma, rel=1e-3)


@pytest.mark.parametrize("level", [0.3, 0.6])
def test_sensor_noise_is_affine_in_light_and_spread_by_the_mosaic(level):
    out = np.asarray(to_linear(noisy_gray("sensor_noise", level, 0.2).astype(np.float32)), np.float64)
    light = ((level + 0.055) / 1.055) ** 2.4
    variance = 0.2**2 * (camera.SHOT_GAIN * light + camera.READ_SIGMA**2)
    field = out - light
    native = {"red": field[::2, ::2, 0], "blue": field[1::2, 1::2, 2], "green": field[::2, 1::2, 1]}
    for plane in native.values():
        check_white(plane, variance**0.5)
        assert kurtosis_of(plane) == pytest.approx(3.0, abs=4 * (24 / plane.size) ** 0.5)
    # Interpolated from two pixels or from four.
    shares = {
        (0, 1, 0): 1 / 2, (1, 0, 0): 1 / 2, (1, 1, 0): 1 / 4,
        (0, 1, 2): 1 / 2, (1, 0, 2): 1 / 2, (0, 0, 2): 1 / 4,
        (0, 0, 1): 1 / 4, (1, 1, 1): 1 / 4,
    }  # fmt: skip
    for (row, column, channel), share in shares.items():
        assert field[row::2, column::2, channel].var() == pytest.approx(share * variance, rel=0.06)


def test_demosaicking_is_scipys_convolution():
    image = data.coffee()[100:164, 200:296].astype(np.float32) / 255
    ours = np.asarray(jax.jit(lambda x: camera.demosaic(camera.mosaic(x)))(image))
    rows, columns = np.indices(image.shape[:2]) % 2
    sites = np.stack([(rows == 0) & (columns == 0), rows != columns, (rows == 1) & (columns == 1)], axis=-1)
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    square = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    for channel, kernel in enumerate((square, cross, square)):
        seen = np.where(sites[..., channel], image[..., channel], 0.0)
        expected = scipy.ndimage.convolve(seen, kernel, mode="mirror")
        np.testing.assert_allclose(ours[..., channel], expected, atol=1e-6)


def test_sensor_noise_adds_a_share_of_the_demosaicking_residue():
    # Between .3 and .7 nothing clips, so the noise averages out over keys and the residue stays.
    image = jnp.asarray(0.3 + 0.4 * data.chelsea()[60:108, 110:158].astype(np.float32) / 255)
    keys = jax.random.split(KEY, 512)
    run = jax.jit(jax.vmap(lambda key: to_linear(apply("sensor_noise", key, image, 0.2))))
    light = np.asarray(to_linear(image), np.float64)
    seen = jax.jit(lambda x: camera.demosaic(camera.mosaic(x)))(light.astype(np.float32))
    residue = 0.2 * (np.asarray(seen) - light)
    found = np.asarray(run(keys), np.float64).mean(axis=0) - light
    noise_left = 0.2 * (camera.SHOT_GAIN * light.max() + camera.READ_SIGMA**2) ** 0.5 / 512**0.5
    assert residue.std() > noise_left
    assert np.abs(found - residue).max() < 5.5 * noise_left


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_low_light_is_poisson_gaussian_after_a_gain(level):
    severity = 0.5
    out = np.asarray(to_linear(noisy_gray("low_light", level, severity).astype(np.float32)), np.float64)
    light = ((level + 0.055) / 1.055) ** 2.4
    electrons, gain = 300 * 2 ** (-4 * severity), 2 ** (-2 * severity)
    native = out[::2, ::2, 0]
    expected = gain * severity * (electrons * light + 3.0**2) ** 0.5 / electrons
    check_white(native - gain * light, expected)
    assert out[1::2, 1::2, 0].var() == pytest.approx(expected**2 / 4, rel=0.06)
