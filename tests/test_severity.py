"""The contract of the whole bank on twenty pristine crops: severity 0 is the identity, and distance grows with it."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image
from skimage import data
from skimage.metrics import structural_similarity

from driqa_jax.degradations import DEGRADATIONS, NAMES, apply

SEVERITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
MIDDLE = SEVERITIES.index(0.5)
SIDE = 64
PHOTOS = pathlib.Path(__file__).resolve().parent.parent / "examples" / "photos"

# Rounding has no slope; all others claim to be differentiable in the image.
STEPPED = {
    *("jpeg", "jpeg2000", "double_jpeg", "chroma_subsampling", "quantization", "color_quantization"),
    *("underexposed", "camera_noise"),
}
# What moves pixels is judged by structure: RMSE tells little about by how much.
GEOMETRIC = {"jitter", "non_eccentricity_patch", "color_shift", "interlace_combing"}
# PSNR below which half of the crops fall at severity 1; what leaves luma alone stays nearer.
WORST_PSNR = {"chroma_subsampling": 40.0}


@functools.cache
def crops() -> np.ndarray:
    """Twenty crops of ten color photographs in the public domain, at half size; float32 (20, 64, 64, 3)."""
    pictures = [
        *(data.astronaut(), data.chelsea(), data.coffee(), data.rocket()),
        *(np.asarray(Image.open(PHOTOS / name).convert("RGB")) for name in
          ("city.jpg", "dog.jpg", "flowers.webp", "guitar.jpg", "nyc.jpg", "reflect.jpg")),
    ]  # fmt: skip
    found = []
    for picture in pictures:
        half = Image.fromarray(picture).reduce(2)
        for place in (0.3, 0.6):
            left, top = (round(place * (side - SIDE)) for side in half.size)
            found.append(np.asarray(half.crop((left, top, left + SIDE, top + SIDE))))
    return np.stack(found).astype(np.float32) / 255


@functools.cache
def probed(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Degraded crops (severity, 20, H, W, 3), and the gradient in the crops of a random projection of them."""
    keys = jax.random.split(jax.random.key(4), len(crops()))
    weights = np.random.default_rng(0).standard_normal(crops().shape).astype(np.float32)

    @jax.jit
    def run(photos):
        def at(severity):
            degrade = jax.vmap(lambda key, photo: apply(name, key, photo, severity))
            out, pull = jax.vjp(lambda photos: degrade(keys, photos), photos)
            return out, pull(weights)[0]

        return lax.map(at, jnp.asarray(SEVERITIES, jnp.float32))

    return tuple(np.asarray(part) for part in run(crops()))


def distances(name: str, out: np.ndarray) -> np.ndarray:
    """Distance of each picture to its original, (severity, 20): RMSE, or 1 - SSIM for what moves pixels."""
    if name in GEOMETRIC:
        return np.array(
            [
                [
                    1 - structural_similarity(a, b, channel_axis=-1, data_range=1.0)
                    for a, b in zip(crops(), pictures, strict=True)
                ]
                for pictures in out
            ]
        )
    return np.sqrt(((out - crops()[None]) ** 2).mean(axis=(2, 3, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_severity_zero_is_the_identity_and_distance_grows_with_severity(name):
    out, _ = probed(name)
    assert out.dtype == np.float32 and out.min() >= 0.0 and out.max() <= 1.0
    assert np.abs(out[0] - crops()).max() <= 1e-6
    steps = np.diff(distances(name, out), axis=0)
    # So small a crop holds a handful of patches: a step of severity may add none.
    least = -1e-6 if name == "non_eccentricity_patch" else 0.0
    assert (steps.mean(axis=1) > least).all(), distances(name, out).mean(axis=1)
    # Every crop at every step, up to one step in fifty. A channel that moves on over a regular pattern (windows, fur)
    # meets it again.
    share = 0.85 if name == "color_shift" else 0.98
    assert (steps > least).mean() >= share, np.argwhere(steps < least)
    psnr = -10 * np.log10(((out[-1] - crops()) ** 2).mean(axis=(1, 2, 3)))
    assert np.median(psnr) < WORST_PSNR.get(name, 28.0), psnr


@pytest.mark.parametrize("name", [entry.name for entry in DEGRADATIONS])
def test_gradients_are_finite_and_reach_the_image(name):
    _, gradient = probed(name)
    assert np.isfinite(gradient).all()
    if name not in STEPPED:
        assert (np.abs(gradient[MIDDLE]).max(axis=(1, 2, 3)) > 1e-3).all()
