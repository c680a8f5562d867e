"""The 3x3 median against scipy, and what it is for in the restorer."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from driqa_jax.models.ops import median3
from driqa_jax.models.restoration import RestorationNet

RNG = np.random.default_rng(0)


def test_median_is_scipys():
    images = RNG.random((2, 7, 9, 3)).astype(np.float32)
    images[0, :4] = np.round(images[0, :4] * 3) / 3  # ties
    expected = ndimage.median_filter(images, size=(1, 3, 3, 1), mode="nearest")
    np.testing.assert_array_equal(jax.jit(median3)(images), expected)


def test_gradient_goes_to_the_pixel_that_is_the_median():
    image = RNG.permutation(25).reshape(1, 5, 5, 1).astype(np.float32)
    slope = np.asarray(jax.grad(lambda x: median3(x)[0, 2, 2, 0])(jnp.asarray(image)))
    middle = ndimage.median_filter(image[0, :, :, 0], size=3)[2, 2]
    np.testing.assert_array_equal(slope, (image == middle).astype(np.float32))


def test_restorer_can_return_the_median_itself_and_needs_few_weights_for_it():
    net = RestorationNet(width=4, encoder=(1,), middle=1)
    images, d = RNG.random((1, 16, 16, 3)).astype(np.float32), jnp.ones((1, 8))
    params = jax.jit(net.init)(jax.random.key(0), images, d)
    look = jax.jit(net.apply)
    restored, _ = look(params, images, d)
    np.testing.assert_array_equal(restored, images)
    params["params"]["mix"]["bias"] = jnp.ones(12)
    restored, levels = look(params, images, d)
    np.testing.assert_allclose(restored, median3(images), atol=1e-6)
    assert levels[-1].shape == (1, 8, 8, 12) and np.max(levels[-1]) > 0
