"""Color and tone against scikit-image, scipy and numpy."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
from skimage import color, data

from driqa_jax.degradations import apply
from driqa_jax.degradations.color import lab_to_srgb, linear_to_srgb, srgb_to_lab, srgb_to_linear

KEY = jax.random.key(7)
once = jax.jit(apply, static_argnums=0)


def assert_is_lab(ours: np.ndarray, lab: np.ndarray) -> None:
    """The picture is scikit-image's of this CIELAB, where that has Z >= 0 (it moves other colors first)."""
    real = (lab[..., 0] + 16) / 116 - lab[..., 2] / 200 >= 0
    assert real.mean() > 0.8
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*negative Z values.*")
        np.testing.assert_allclose(ours[real], color.lab2rgb(lab)[real], atol=1e-4)


@functools.cache
def photo() -> np.ndarray:
    """A crop of a photograph, float32 (96, 128, 3)."""
    return data.astronaut()[20:116, 130:258].astype(np.float32) / 255


def degrade(name: str, severity: float, key: jax.Array = KEY) -> np.ndarray:
    return np.asarray(once(name, key, photo(), severity), np.float64)


def test_transfer_curves_are_scikit_images():
    gray = np.linspace(0, 1, 1001)[None, :, None] * np.ones((1, 1, 3))
    # scikit-image has no public curve; luminance of a gray picture in XYZ is that curve.
    light = color.rgb2xyz(gray)[0, :, 1]
    ours = srgb_to_linear(jnp.asarray(gray[0, :, 0], jnp.float32))
    np.testing.assert_allclose(ours, light, atol=1e-6)
    np.testing.assert_allclose(linear_to_srgb(ours), gray[0, :, 0], atol=1e-6)


def test_lab_is_scikit_images():
    colors = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    colors[0, :8] = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    ours = np.asarray(srgb_to_lab(colors))
    np.testing.assert_allclose(ours, color.rgb2lab(colors.astype(np.float64)), atol=2e-3)
    np.testing.assert_allclose(lab_to_srgb(ours), colors, atol=2e-5)


def test_saturations_are_scikit_images():
    hsv = color.rgb2hsv(photo())
    hsv[..., 1] *= 1 - 1.4 * 0.4
    np.testing.assert_allclose(degrade("color_saturation_1", 0.4), color.hsv2rgb(hsv), atol=1e-5)
    lab = color.rgb2lab(photo().astype(np.float64))
    lab[..., 1:] *= 2  # KADID-10k's second level
    assert_is_lab(degrade("color_saturation_2", 0.125), lab)


def test_color_diffusion_blurs_and_scales_lab():
    lab = color.rgb2lab(photo().astype(np.float64))
    # Amount 3, KADID-10k's second level: sigma 6.5, scale 3.
    blurred = scipy.ndimage.gaussian_filter(lab[..., 1:], (6.5, 6.5, 0), mode="reflect", truncate=6)
    assert_is_lab(degrade("color_diffusion", 0.25), np.concatenate([lab[..., :1], 3 * blurred], axis=-1))


def test_color_shift_moves_green_near_edges():
    image = photo().astype(np.float64)
    luma = image @ [0.2989, 0.5870, 0.1140]
    padded = np.pad(luma, 1, mode="edge")
    magnitude = np.hypot(padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2])
    near = scipy.ndimage.gaussian_filter(magnitude, 4.0, mode="reflect", radius=8)[..., None]
    near = (near / near.max())[..., 0]
    angles = []
    for seed in range(2):
        key = jax.random.key(seed)
        angle = float(jax.random.uniform(key, maxval=2 * jnp.pi))
        angles.append(angle)
        move = (-6 * np.sin(angle), -6 * np.cos(angle))
        moved = scipy.ndimage.shift(image[..., 1], move, order=1, mode="nearest")
        expected = image[..., 1] + near * (moved - image[..., 1])
        ours = degrade("color_shift", 0.5, key)
        # The 1e-8 under the root of the gradient is what is left.
        np.testing.assert_allclose(ours[..., 1], expected, atol=1e-3)
        np.testing.assert_array_equal(ours[..., [0, 2]], photo()[..., [0, 2]])
    assert angles[0] != angles[1]


def test_color_quantization_leaves_few_fitted_colors():
    from PIL import Image

    for severity, colors in ((1.0, 8), (0.4421, 32)):
        ours = degrade("color_quantization", severity)
        assert len(np.unique(ours.reshape(-1, 3), axis=0)) in range(colors - 2, colors + 1)
        pixels = Image.fromarray(np.round(photo() * 255).astype(np.uint8))
        cut = pixels.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        theirs = np.asarray(cut.convert("RGB"), np.float64) / 255

        def error(image: np.ndarray, sigma: float) -> float:
            smooth = scipy.ndimage.gaussian_filter(image - photo(), (sigma, sigma, 0))
            return float((smooth**2).mean())

        # Dithering costs at a pixel and gains seen from afar: against an undithered median cut of equal size.
        assert error(ours, 0.0) < 2.5 * error(theirs, 0.0)
        assert error(ours, 2.0) < error(theirs, 2.0)


def test_tone_curves_are_numpys():
    x = photo().astype(np.float64)
    line = np.polynomial.Polynomial.fit([0, 0.5, 1], [0, 0.5 - 0.4 * 0.5, 1], 2)
    np.testing.assert_allclose(degrade("darken", 0.5), np.clip(line(x), 0, 1), atol=1e-6)
    curve = np.polynomial.Polynomial.fit([0, 0.5, 1], [0, 0.5 + 0.55 * 0.5, 1], 2)
    lab = color.rgb2lab(x)
    lab[..., 0] = 100 * np.clip(curve(lab[..., 0] / 100), 0, 1)
    expected = (2 * np.clip(curve(x), 0, 1) + color.lab2rgb(lab)) / 3
    np.testing.assert_allclose(degrade("brighten", 0.5), expected, atol=1e-4)


def signed(name: str, severity: float, candidates: list[np.ndarray]) -> set[int]:
    """Which of the expected pictures the keys' draws give; each must be one of them."""
    seen = set()
    for seed in range(6):
        ours = degrade(name, severity, jax.random.key(seed))
        fits = [i for i, expected in enumerate(candidates) if np.abs(ours - expected).max() < 1e-5]
        assert len(fits) == 1
        seen.add(fits[0])
    return seen


def test_mean_shift_goes_both_ways():
    x = photo().astype(np.float64)
    assert signed("mean_shift", 0.5, [np.clip(x + 0.15, 0, 1), np.clip(x - 0.15, 0, 1)]) == {0, 1}


@pytest.mark.parametrize(("severity", "amounts"), [(0.4, (0.0, -0.4))])
def test_contrast_change_is_kadids_spline(severity, amounts):
    candidates = []
    for amount in amounts:
        low, high = 0.25 - amount / 4, 0.75 + amount / 4
        # scipy's default end condition is not-a-knot, as MATLAB's.
        spline = scipy.interpolate.CubicSpline([0, 0.3, 0.5, 0.7, 1], [0, low, 0.5, high, 1])
        candidates.append(np.clip(spline(photo().astype(np.float64)), 0, 1))
    assert signed("contrast_change", severity, candidates) == {0, 1}
