"""Signal statistics against numpy and scipy, and against what each degradation is known to leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from PIL import Image

from driqa_jax.models import signal_statistics as statistics


@pytest.fixture(scope="module")
def photos():
    """Two crops of 96x96 of CC0 photographs, float."""
    crops = []
    for name in ("dog", "city"):
        with Image.open(f"examples/photos/{name}.jpg") as picture:
            crops.append(np.asarray(picture.convert("RGB"))[100:196, 150:246] / np.float32(255))
    return np.stack(crops)


def test_spectra_are_those_of_scipy(photos):
    found = np.asarray(statistics.spectra(jnp.asarray(photos))).reshape(2, 3, 3, 16)
    blocks = []
    for picture in (photos[0], photos[0][2:-2, 2:-2]):
        h, w = picture.shape[0] // 4, picture.shape[1] // 4
        blocks.append(picture.reshape(h, 4, w, 4, 3).transpose(4, 0, 2, 1, 3).reshape(3, h * w, 4, 4))
    coefficients = scipy.fft.dctn(np.concatenate(blocks, axis=1), axes=(2, 3), norm="ortho").reshape(3, -1, 16)
    strength = np.log(np.abs(coefficients).mean(axis=1) + 1e-4)
    np.testing.assert_allclose(found[0, 0], strength, atol=2e-4)
    np.testing.assert_allclose(found[0, 1], np.log((coefficients**2).mean(axis=1) + 1e-7) - 2 * strength, atol=5e-4)
    np.testing.assert_allclose(found[0, 2], (np.abs(coefficients) < 0.002).mean(axis=1), atol=2e-3)


def test_correlations_equal_the_explicit_sums(photos):
    signal = np.asarray(statistics.high_pass(jnp.asarray(photos)))[0]
    found = np.asarray(statistics.correlations(jnp.asarray(signal[None])))[0]
    lines = signal.reshape(96 * 3, 32, 3)

    def mean(a, b, lag):
        left, right = lines[:, : 32 - lag, a], lines[:, lag:, b]
        return (left * right).sum() / (96 * 3) / (32 - lag)

    variance = [mean(c, c, 0) + 1e-7 for c in range(3)]
    for channel, lag in ((0, 1), (1, 5), (2, 16)):
        wanted = mean(channel, channel, lag) / variance[channel]
        np.testing.assert_allclose(found[16 * channel + lag - 1], wanted, rtol=1e-3, atol=1e-4)
    for pair, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        for lag in (-16, -3, 0, 7):
            wanted = (mean(a, b, lag) if lag >= 0 else mean(b, a, -lag)) / np.sqrt(variance[a] * variance[b])
            np.testing.assert_allclose(found[48 + 33 * pair + lag + 16], wanted, rtol=1e-3, atol=1e-4)


def test_a_shifted_channel_peaks_at_its_shift():
    noise = np.random.default_rng(0).standard_normal((1, 96, 96, 1)).astype(np.float32)
    pair = jnp.asarray(np.concatenate([noise, np.roll(noise, 5, axis=2)], axis=-1))
    along_rows = np.asarray(statistics.correlations(pair))[0, 32:65]
    assert along_rows.argmax() == 16 + 5
    assert along_rows[21] > 0.8


@pytest.mark.parametrize("period,place", [(8, 0), (4, 1), (2, 3)])
def test_grids_find_the_period_at_any_offset(period, place):
    for begin in (0, 1):
        lines = (np.arange(96) + begin) // period % 2 * 0.5
        picture = jnp.asarray(np.broadcast_to(lines[None, None, :, None], (1, 96, 96, 1)), jnp.float32)
        strength = np.asarray(statistics.grids(picture))[0, 6:10]
        assert strength[place] > -0.2
        assert strength.argmax() >= place  # a step a period has every multiple of its frequency too


def test_histograms_are_those_of_numpy(photos):
    found = np.asarray(statistics.histograms(jnp.asarray(photos))).reshape(2, 3, 37)
    levels = np.round(photos[1] * 255).astype(int)
    for channel in range(3):
        counts = np.bincount(levels[..., channel].ravel(), minlength=256) / 96**2
        np.testing.assert_allclose(found[1, channel, :32], np.log(counts.reshape(32, 8).sum(axis=1) + 1e-3), atol=1e-4)
        np.testing.assert_allclose(found[1, channel, 32], (counts > 0).mean(), atol=1e-6)
        np.testing.assert_allclose(found[1, channel, 35:], np.log(counts[[0, 255]] + 1e-4), atol=1e-4)


def test_few_levels_show_in_the_histogram(photos):
    coarse = np.round(photos * 7) / 7
    before, after = (np.asarray(statistics.histograms(jnp.asarray(x)))[0, 32] for x in (photos, coarse))
    assert after <= 8 / 256 < before


def test_size_and_place_change_little():
    with Image.open("examples/photos/dog.jpg") as picture:
        photo = np.asarray(picture.convert("RGB"))[:320, :320] / np.float32(255)
    noisy = np.clip(photo + np.random.default_rng(1).normal(0, 0.1, photo.shape), 0, 1).astype(np.float32)
    look = jax.jit(statistics.signal_statistics)
    small, moved, large = look(noisy[None, 40:168, 40:168]), look(noisy[None, 45:173, 51:179]), look(noisy[None])
    assert small.shape == large.shape == (1, 582)
    spectra = slice(1, 16)  # of luma, without its mean
    np.testing.assert_allclose(small[0, spectra], moved[0, spectra], atol=0.15)
    np.testing.assert_allclose(small[0, spectra], large[0, spectra], atol=0.3)


def test_every_image_has_finite_statistics_and_gradients():
    pictures = jnp.stack([jnp.zeros((64, 64, 3)), jnp.ones((64, 64, 3)), jnp.full((64, 64, 3), 0.5)])
    assert np.isfinite(np.asarray(statistics.signal_statistics(pictures))).all()
    slope = jax.grad(lambda x: statistics.signal_statistics(x).sum())(pictures)
    assert np.isfinite(np.asarray(slope)).all()


def test_smooth_statistics_have_their_true_gradient(photos):
    def smooth(x):
        strength = statistics.spectra(x).reshape(2, 3, -1)[:, :2]
        alike = statistics.correlations(statistics.high_pass(x))
        return jnp.concatenate([strength.reshape(2, -1), alike], axis=1).mean()

    # Flat places have coefficients of exactly 0, where a magnitude has no slope.
    images = jnp.asarray(photos) + 0.02 * jax.random.normal(jax.random.key(0), photos.shape)
    slope = jax.grad(smooth)(images)
    towards, step = slope / jnp.linalg.norm(slope), 0.01
    measured = (smooth(images + step * towards) - smooth(images - step * towards)) / (2 * step)
    np.testing.assert_allclose(measured, jnp.linalg.norm(slope), rtol=0.02)
