"""JPEG 2000 against OpenJPEG, through Pillow."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, features
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from driqa_jax.degradations.entry import scale_severities
from driqa_jax.degradations.jpeg2000 import (
    COARSEST_STEP,
    FINEST_STEP,
    analyze,
    jpeg2000_at_step,
    jpeg2000_step,
    synthesize,
)

ours_at = jax.jit(jpeg2000_at_step)

# Neither side is even, nor half of it.
PHOTOS = {
    "astronaut": lambda: data.astronaut()[10:265, 120:311],
    "coffee": lambda: data.coffee()[100:355, 200:391],
    "chelsea": lambda: data.chelsea()[40:295, 110:301],
}


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no OpenJPEG")
@pytest.mark.parametrize("photo", PHOTOS)
def test_ssim_matches_openjpeg_at_the_same_psnr(photo):
    pixels = np.ascontiguousarray(PHOTOS[photo]())
    image = jnp.asarray(pixels, jnp.float32) / 255
    for ratio in (16, 32, 45, 120):
        stream = io.BytesIO()
        layers = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
        Image.fromarray(pixels).save(stream, "JPEG2000", **layers)
        theirs = np.asarray(Image.open(stream))
        target = peak_signal_noise_ratio(pixels, theirs)
        low, high = 0.0, 1.0
        for _ in range(10):
            severity = (low + high) / 2
            ours = np.round(np.asarray(ours_at(image, jpeg2000_step(severity))) * 255).astype(np.uint8)
            if peak_signal_noise_ratio(pixels, ours) > target:
                low = severity
            else:
                high = severity
        assert peak_signal_noise_ratio(pixels, ours) == pytest.approx(target, abs=0.1)
        assert structural_similarity(pixels, ours, channel_axis=-1) == pytest.approx(
            structural_similarity(pixels, theirs, channel_axis=-1), abs=0.02
        ), ratio


@pytest.mark.parametrize("length", [2, 3, 32, 33, 37])
def test_wavelet_is_inverted_and_the_papers_filter(length):
    line = np.random.default_rng(0).standard_normal((length, 3))
    low, high = analyze(line)
    assert low.shape[0] == -(-length // 2) and high.shape[0] == length // 2
    np.testing.assert_allclose(synthesize(low, high), line, atol=1e-12)
    # A polynomial of degree 3 leaves nothing in the high band, away from the mirrored ends: four vanishing moments.
    cubic = (np.arange(length) / length)[:, None] ** np.arange(4)[None, :]
    np.testing.assert_allclose(analyze(cubic)[1][2:-3], 0.0, atol=1e-9)
    # Taps of the 9-tap low-pass as Antonini et al. print them (1992, table I, over sqrt 2).
    if length > 32:
        impulse = np.zeros((length, 1))
        impulse[16] = 1.0
        taps = analyze(impulse)[0][6:11, 0]
        np.testing.assert_allclose(taps, [0.026749, -0.078223, 0.602949, -0.078223, 0.026749], atol=1e-6)


def test_a_fine_step_loses_nothing():
    pixels = PHOTOS["coffee"]()
    ours = np.asarray(ours_at(jnp.asarray(pixels, jnp.float32) / 255, 0.05)) * 255
    np.testing.assert_allclose(ours, pixels, atol=1e-3)
    (severity,) = scale_severities([44.0], FINEST_STEP, COARSEST_STEP)
    assert float(jpeg2000_step(severity)) == pytest.approx(44.0, rel=1e-4)
