"""Denoisers, smoothers and halos against scipy's filters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from skimage import data

from driqa_jax.degradations import apply, noise, sharpness
from driqa_jax.degradations.filters import box_mean

KEY = jax.random.key(5)


@functools.cache
def photo() -> np.ndarray:
    return data.chelsea()[60:156, 110:238].astype(np.float32) / 255


@pytest.mark.parametrize("radius", [1, 3, 6, 8])
def test_box_mean_is_scipys_uniform_filter(radius):
    ours = jax.jit(box_mean, static_argnums=1)(photo(), radius)
    size = 2 * radius + 1
    expected = scipy.ndimage.uniform_filter(photo().astype(np.float64), (size, size, 0), mode="reflect")
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_denoise_is_white_noise_and_scipys_wiener_filter():
    severity, inner = 0.25, slice(4, -4)
    sigma = sharpness.DENOISED_SIGMA * severity
    noisy = np.clip(photo() + sigma * np.asarray(noise.normal(KEY, photo().shape)), 0, 1).astype(np.float64)
    ours = np.asarray(jax.jit(functools.partial(apply, "denoise"))(KEY, photo(), severity))
    for channel in range(3):
        expected = scipy.signal.wiener(noisy[..., channel], 9, noise=sigma**2)
        # scipy fills with zeros beyond the borders, we mirror.
        np.testing.assert_allclose(ours[inner, inner, channel], np.clip(expected, 0, 1)[inner, inner], atol=2e-5)

    def psnr(image: np.ndarray) -> float:
        return -10 * np.log10(((image - photo()) ** 2).mean())

    # A denoiser that deserves the name.
    assert psnr(ours) > psnr(noisy) + 4


@pytest.mark.parametrize("severity", [0.2, 0.7])
def test_over_smoothing_is_a_guided_filter(severity):
    ours = np.asarray(jax.jit(functools.partial(apply, "over_smoothing"))(KEY, photo(), severity))
    size, epsilon = 2 * sharpness.SMOOTHING_RADIUS + 1, (sharpness.SMOOTHED_SIGMA * severity) ** 2

    def mean(x: np.ndarray) -> np.ndarray:
        return scipy.ndimage.uniform_filter(x, (size, size, 0), mode="reflect")

    image = photo().astype(np.float64)
    covariance = mean(image**2) - mean(image) ** 2
    slope = covariance / (covariance + epsilon)
    offset = mean(image) * (1 - slope)
    np.testing.assert_allclose(ours, np.clip(mean(slope) * image + mean(offset), 0, 1), atol=1e-5)


def test_over_smoothing_keeps_edges_and_loses_texture():
    rng = np.random.default_rng(0)
    image = np.where(np.arange(128)[None, :, None] < 64, 0.2, 0.8) + 0.03 * rng.standard_normal((128, 128, 3))
    run = jax.jit(functools.partial(apply, "over_smoothing"))
    out = np.asarray(run(KEY, jnp.asarray(np.clip(image, 0, 1), jnp.float32), 0.6))
    assert out[:, 10:40].std(axis=0).mean() < 0.25 * image[:, 10:40].std(axis=0).mean()
    assert (out[:, 64] - out[:, 63]).mean() > 0.8 * 0.6


@pytest.mark.parametrize("severity", [0.2, 0.8])
def test_halo_is_scipys_wide_unsharp_mask_with_a_limit(severity):
    ours = jax.jit(functools.partial(apply, "halo"))(KEY, photo(), severity)
    luma = photo() @ np.array([0.299, 0.587, 0.114], np.float32)
    detail = luma - scipy.ndimage.gaussian_filter(luma, 6.0, mode="reflect", radius=18)
    overshoot = np.clip(4.0 * severity * detail, -0.25, 0.25)
    assert severity < 0.5 or (np.abs(overshoot) == 0.25).mean() > 0.01
    np.testing.assert_allclose(ours, np.clip(photo() + overshoot[..., None], 0, 1), atol=2e-5)
