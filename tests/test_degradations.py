"""Each degradation against an oracle outside the project: scipy, scikit-image, numpy, or its own moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from skimage import data

from driqa_jax import degradations
from driqa_jax.checkpoints.weights import bundled_files, load_weights
from driqa_jax.degradations import DEGRADATIONS, NAMES, apply, entry
from driqa_jax.degradations.recipes import GROUPS, KADID
from experiments.deduction.visible import TYPES

KEY = jax.random.key(7)


@functools.cache
def photos() -> np.ndarray:
    """Three 96x128 crops of photographs, float32 (3, 96, 128, 3)."""
    crops = (
        data.astronaut()[20:116, 130:258],
        data.coffee()[110:206, 200:328],
        data.chelsea()[60:156, 110:238],
    )
    return np.stack(crops).astype(np.float32) / 255


@functools.cache
def compiled(name: str):
    """The degradation over three photographs and n severities: (key, (3,H,W,3), (n,)) -> (n,3,H,W,3)."""
    fn = functools.partial(apply, name)
    over_photos = jax.vmap(fn, in_axes=(None, 0, None))
    return jax.jit(jax.vmap(over_photos, in_axes=(None, None, 0)))


once = jax.jit(apply, static_argnums=0)


def degrade(name: str, severities: list[float]) -> np.ndarray:
    return np.asarray(compiled(name)(KEY, photos(), jnp.asarray(severities, jnp.float32)))


def test_type_indices_never_change():
    """Trained weights store a type as its index, so this order is data: append new names, never reorder."""
    assert (
        *("gaussian_blur", "lens_blur", "motion_blur", "color_diffusion", "color_shift", "color_quantization"),
        *("color_saturation_1", "color_saturation_2", "jpeg2000", "jpeg", "white_noise"),
        *("white_noise_color_component", "impulse_noise", "multiplicative_noise", "denoise", "brighten", "darken"),
        *("mean_shift", "jitter", "non_eccentricity_patch", "pixelate", "quantization", "color_block"),
        *("high_sharpen", "contrast_change", "sensor_noise", "low_light", "haze", "resample", "ringing"),
        *("chroma_subsampling", "double_jpeg", "over_smoothing", "halo"),
        *("underexposed", "overexposed", "out_of_focus", "camera_shake", "camera_noise", "flare_haze", "color_cast"),
        *("truncated_data", "wrong_blocks", "interlace_combing", "dead_stripe"),
    ) == NAMES
    assert NAMES[:25] == KADID


def test_the_bundled_weights_name_types_of_the_bank():
    """`lite-0.5` was trained before the types from 34 on were added; `lite` has the types with a visible drop."""
    expected = {"lite": TYPES, "lite-0.5": NAMES[:34]}
    for name, file in bundled_files().items():
        metadata = load_weights(file)[1]
        assert tuple(metadata["degradations"]) == tuple(metadata["config"]["types"]) == expected[name]


def test_a_declared_function_joins_the_bank_and_an_index_is_used_once(monkeypatch):
    monkeypatch.setattr(entry, "_DECLARED", dict(entry._DECLARED))

    def invert(key, image, severity):
        return image + severity * (1 - 2 * image)

    assert entry.degradation(len(NAMES), "tone", ordered=False, kadid_levels=[0.123456])(invert) is invert
    added = entry.declared()[-1]
    assert (added.name, added.fn, added.ordered, added.kadid_levels) == ("invert", invert, False, (0.1235,))
    with pytest.raises(ValueError, match="'invert': index 9 already belongs to 'jpeg'"):
        entry.degradation(9, "tone")(invert)
    entry.degradation(len(NAMES) + 2, "tone")(lambda key, image, severity: image)
    with pytest.raises(ValueError, match="without a gap"):
        entry.declared()


def test_table_is_consistent():
    assert len(set(NAMES)) == len(NAMES) == len(DEGRADATIONS) >= 12
    assert {each.group for each in DEGRADATIONS} == set(GROUPS)
    for each in DEGRADATIONS:
        levels = each.kadid_levels
        if levels is not None:
            assert len(levels) == 5 and min(levels) >= 0.0 and max(levels) <= 1.0, each.name
            if each.ordered:
                assert list(levels) == sorted(set(levels)) and levels[0] > 0.0, each.name
    # KADID-10k's own human scores are not ordered on these.
    unordered = {"brighten", "darken", "mean_shift", "contrast_change", "color_block", "non_eccentricity_patch"}
    assert unordered <= {each.name for each in DEGRADATIONS if not each.ordered}


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_gaussian_blur_is_scipys(sigma):
    ours = degrade("gaussian_blur", [sigma / 5])[0]
    for photo, result in zip(photos(), ours, strict=True):
        expected = scipy.ndimage.gaussian_filter(photo, (sigma, sigma, 0), mode="reflect", radius=(15, 15, 0))
        np.testing.assert_allclose(result, expected, atol=2e-6)


def test_lens_blur_is_a_disc():
    radius = 8.0
    y, x = np.mgrid[-9:10, -9:10].astype(np.float64)
    # Area of each pixel inside the disc, by 16x16 sampling: independent of the code's distance ramp.
    fine = (np.arange(16) + 0.5) / 16 - 0.5
    inside = (y[..., None, None] + fine[:, None]) ** 2 + (x[..., None, None] + fine[None, :]) ** 2 <= radius**2
    disc = inside.mean(axis=(2, 3))
    ours = degrade("lens_blur", [1.0])[0]
    for photo, result in zip(photos(), ours, strict=True):
        expected = scipy.ndimage.convolve(photo, (disc / disc.sum())[:, :, None], mode="reflect")
        np.testing.assert_allclose(result, expected, atol=4e-3)


def test_motion_blur_smears_along_one_drawn_line():
    point = jnp.zeros((65, 65, 3)).at[32, 32].set(1.0)
    blur = jax.jit(functools.partial(apply, "motion_blur"))
    y, x = np.mgrid[-32:33, -32:33].astype(np.float64)
    angles = []
    for seed in range(4):
        spread = np.asarray(blur(jax.random.key(seed), point, 1.0)[..., 0], np.float64)
        assert spread.sum() == pytest.approx(1.0, abs=1e-3)
        moments = np.array([[(spread * x * x).sum(), (spread * x * y).sum()], [0, (spread * y * y).sum()]])
        moments[1, 0] = moments[0, 1]
        values, vectors = np.linalg.eigh(moments)
        # A segment of length L has variance L*L/12 along itself; soft ends and sides add a little.
        assert np.sqrt(12 * values[1]) == pytest.approx(20.0, abs=1.5)
        assert values[0] < 0.25
        angles.append(np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi)
    assert np.ptp(angles) > 0.3


def test_white_noise_has_its_moments_and_is_white():
    gray = jnp.full((256, 256, 3), 0.5)
    noise = np.asarray(once("white_noise", KEY, gray, 0.5), np.float64) - 0.5
    sigma, count = 0.075, noise.size
    assert abs(noise.mean()) < 4 * sigma / count**0.5
    assert noise.std() == pytest.approx(sigma, rel=4 / (2 * count) ** 0.5)
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(3.0, abs=4 * (24 / count) ** 0.5)
    for axis in range(3):
        pairs = noise * np.roll(noise, 1, axis=axis)
        assert abs(pairs.mean()) < 4 * sigma**2 / count**0.5


def test_impulse_noise_hits_its_share_half_black_half_white():
    gray = jnp.full((256, 256, 3), 0.5)
    out = np.asarray(once("impulse_noise", KEY, gray, 0.4))
    count = out.size
    for value in (0.0, 1.0):
        share = (out == value).mean()
        assert share == pytest.approx(0.02, abs=4 * (0.02 / count) ** 0.5)
    assert set(np.unique(out)) == {0.0, 0.5, 1.0}


def test_quantization_leaves_its_levels():
    assert len(np.unique(degrade("quantization", [1.0])[0])) == 4
    out = degrade("quantization", [0.5])[0]
    steps = round((63 * 3) ** 0.5)
    np.testing.assert_allclose(out, np.round(photos() * steps) / steps, atol=1e-6)


def test_pixelate_is_the_mean_of_blocks():
    out = degrade("pixelate", [1.0, 2 / 3])
    for result, block in zip(out, (8, 4), strict=True):
        means = photos().reshape(3, 96 // block, block, 128 // block, block, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(result, means.repeat(block, axis=1).repeat(block, axis=2), atol=1e-5)


def test_high_sharpen_is_scipys_unsharp_mask():
    amount = 12 * 0.5**1.5
    for photo, ours in zip(photos(), degrade("high_sharpen", [0.5])[0], strict=True):
        luma = photo @ np.array([0.299, 0.587, 0.114], np.float32)
        detail = luma - scipy.ndimage.gaussian_filter(luma, 1.5, mode="reflect", radius=6)
        np.testing.assert_allclose(ours, np.clip(photo + amount * detail[..., None], 0, 1), atol=2e-5)


def test_ringing_overshoots_an_edge_and_drops_high_frequencies():
    edge = jnp.full((128, 128, 3), 0.25).at[:, 64:].set(0.75)
    out = np.asarray(once("ringing", KEY, edge, 0.6), np.float64)[64, :, 0]
    # Gibbs: a hard low-pass overshoots a step by 9 % of its height; a soft blur never does.
    assert 0.75 + 0.05 * 0.5 < out[64:90].max() < 0.75 + 0.14 * 0.5
    wave = 0.5 + 0.2 * np.sin(2 * np.pi * 0.25 * np.arange(128))
    stripes = jnp.asarray(np.broadcast_to(wave[:, None, None], (128, 128, 3)), jnp.float32)
    kept = np.asarray(once("ringing", KEY, stripes, 0.2))[32:-32].std()
    lost = np.asarray(once("ringing", KEY, stripes, 0.8))[32:-32].std()
    assert kept > 0.9 * wave.std() and lost < 0.1 * wave.std()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "gausian_blur"}, ValueError, "did you mean 'gaussian_blur'"),
        ({"severity": 1.5}, ValueError, "1.5"),
        ({"severity": float("nan")}, ValueError, "severity"),
        ({"severity": np.zeros(2, np.float32)}, ValueError, "one scalar"),
        ({"image": np.zeros((64, 64, 3), np.uint8)}, TypeError, "float32"),
        ({"image": np.zeros((64, 64), np.float32)}, ValueError, "height, width, 3"),
        ({"image": np.zeros((64, 31, 3), np.float32)}, ValueError, "64x31"),
        ({"image": np.full((64, 64, 3), 255.0, np.float32)}, ValueError, r"\[0, 1\]"),
    ],
)
def test_bad_input_is_refused(change, error, words):
    good = {"name": "jpeg", "key": KEY, "image": np.zeros((64, 64, 3), np.float32), "severity": 0.5}
    with pytest.raises(error, match=words):
        degradations.apply(**{**good, **change})


def test_an_image_that_a_traced_function_closes_over_is_checked_too():
    good, bad = jnp.full((32, 32, 3), 0.5), jnp.full((32, 32, 3), 2.0)
    assert jax.jit(lambda severity: apply("darken", KEY, good, severity))(0.5).shape == (32, 32, 3)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        jax.jit(lambda severity: apply("darken", KEY, bad, severity))(0.5)
