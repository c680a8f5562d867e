"""PSNR and SSIM against scikit-image, GMSD against its authors' form."""

import jax
import numpy as np
import pytest
from scipy.signal import convolve2d
from skimage import data, metrics

from driqa_jax.evaluation.full_reference import psnr, ssim
from experiments.restored_images.gmsd import gmsd


def pair():
    clean = data.astronaut()[100:180, 200:296].astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.08, clean.shape).astype(np.float32)
    return np.stack([clean, clean]), np.stack([np.clip(clean + noise, 0, 1), np.clip(0.8 * clean + 0.1, 0, 1)])


def test_psnr_and_ssim_are_scikit_images():
    clean, worse = pair()
    ours = np.asarray(jax.jit(psnr)(worse, clean)), np.asarray(jax.jit(ssim)(worse, clean))
    luma = np.array([0.299, 0.587, 0.114])
    for i in range(2):
        expected = metrics.peak_signal_noise_ratio(clean[i], worse[i], data_range=1.0)
        assert ours[0][i] == pytest.approx(expected, abs=1e-3)
        expected = metrics.structural_similarity(
            clean[i].astype(np.float64) @ luma,
            worse[i].astype(np.float64) @ luma,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert ours[1][i] == pytest.approx(expected, abs=2e-4)


def test_a_picture_is_like_itself():
    clean, _ = pair()
    assert np.asarray(psnr(clean, clean)) == pytest.approx(80.0)
    assert np.asarray(ssim(clean, clean)) == pytest.approx(1.0, abs=1e-5)


def test_gmsd_is_that_of_its_authors():
    def authors(x, y):
        # Their GMSD.m, of luma from 0 to 255.
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        magnitudes = []
        for plane in (x, y):
            mean = convolve2d(plane, np.ones((2, 2)) / 4, mode="full")[1:, 1:][::2, ::2]
            gradients = [convolve2d(mean, kernel, mode="valid") for kernel in (prewitt, prewitt.T)]
            magnitudes.append(np.hypot(*gradients))
        a, b = magnitudes
        return ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()

    clean, worse = pair()
    found = np.asarray(jax.jit(gmsd)(worse, clean))
    luma = np.array([0.299, 0.587, 0.114]) * 255
    for i in range(2):
        assert found[i] == pytest.approx(
            authors(worse[i].astype(float) @ luma, clean[i].astype(float) @ luma), abs=2e-4
        )
    assert found[0] > found[1] > 0  # noise is worse than a loss of contrast
    assert np.asarray(gmsd(clean, clean)) == pytest.approx(0, abs=1e-6)
