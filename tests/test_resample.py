"""Shrinking and enlarging against Pillow, kernel by kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from driqa_jax.degradations import apply
from driqa_jax.degradations.resample import KERNELS, SMOOTH, down_up

PILLOW = dict(
    nearest=Image.Resampling.NEAREST,
    box=Image.Resampling.BOX,
    bilinear=Image.Resampling.BILINEAR,
    bicubic=Image.Resampling.BICUBIC,
    lanczos3=Image.Resampling.LANCZOS,
)

run = jax.jit(down_up)


@functools.cache
def photo() -> np.ndarray:
    return data.coffee()[110:206, 200:328].astype(np.float32) / 255


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("down", KERNELS)
def test_each_pair_of_kernels_is_pillows(down, factor):
    for up in KERNELS:
        ours = np.asarray(run(photo(), jnp.float32(factor), KERNELS.index(down), KERNELS.index(up)))
        for channel in range(3):
            plane = Image.fromarray(photo()[..., channel])
            small = plane.resize((128 // factor, 96 // factor), PILLOW[down])
            back = np.asarray(small.resize((128, 96), PILLOW[up]))
            np.testing.assert_allclose(ours[..., channel], np.clip(back, 0, 1), atol=2e-5, err_msg=up)


def test_a_fractional_factor_keeps_the_mean_and_factor_one_the_image():
    for kernel in range(len(KERNELS)):
        same = run(photo(), jnp.float32(1), kernel, kernel)
        np.testing.assert_allclose(same, photo(), atol=1e-6)
        flat = run(jnp.full_like(photo(), 0.3), jnp.float32(2.7), kernel, kernel)
        np.testing.assert_allclose(flat, 0.3, atol=1e-5)


def test_the_key_draws_the_kernels():
    shrunk = jax.jit(lambda key: apply("resample", key, photo(), 2 / 3))
    candidates = {
        (down, up): np.asarray(run(photo(), jnp.float32(4), down, up))
        for down in range(len(KERNELS))
        for up in range(SMOOTH, len(KERNELS))
    }
    seen = set()
    for seed in range(40):
        out = np.asarray(shrunk(jax.random.key(seed)))
        seen |= {pair for pair, other in candidates.items() if np.abs(out - other).max() < 1e-5}
    # 40 draws out of 15 leave one out on average.
    assert len(seen) >= 10 and {down for down, _ in seen} == set(range(5)) and {up for _, up in seen} == {2, 3, 4}
