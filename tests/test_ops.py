"""Depthwise convolution equals XLA's grouped convolution, with gradients; the 3x3 median equals scipy's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import ndimage

from driqa_jax.models.ops import depthwise_conv, median3
from driqa_jax.models.restoration import RestorationNet

# Kernel, stride, height, width: odd and even sides, sides shorter than the kernel, remainders of the stride.
CASES = (
    (3, 1, 9, 8),
    (3, 2, 8, 9),
    (3, 2, 7, 12),
    (5, 1, 6, 11),
    (5, 2, 10, 7),
    (5, 2, 3, 2),
    (3, 3, 10, 8),
    (1, 1, 4, 5),
)


def grouped(x, w, stride):
    return lax.conv_general_dilated(
        x,
        w[:, :, None, :],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=lax.Precision.HIGHEST,
    )


@functools.partial(jax.jit, static_argnames=("conv", "stride"))
def value_and_gradients(conv, x, w, dy, stride):
    y, pull = jax.vjp(lambda x, w: conv(x, w, stride), x, w)
    return y, *pull(dy)


def relative(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("kernel, stride, height, width", CASES)
def test_values_and_gradients_are_those_of_the_grouped_convolution(kernel, stride, height, width):
    rng = np.random.default_rng(kernel * 100 + stride * 10 + height)
    x = rng.standard_normal((2, height, width, 6)).astype(np.float32)
    w = rng.standard_normal((kernel, kernel, 6)).astype(np.float32)
    dy = rng.standard_normal((2, -(-height // stride), -(-width // stride), 6)).astype(np.float32)
    ours = value_and_gradients(depthwise_conv, x, w, dy, stride)
    oracle = value_and_gradients(grouped, x, w, dy, stride)
    for name, found, expected in zip(("y", "dx", "dw"), ours, oracle, strict=True):
        assert found.shape == expected.shape and found.dtype == expected.dtype, name
        assert relative(found, np.asarray(expected)) < 1e-5, name


@pytest.mark.parametrize("shape", [(3, 3, 5), (3, 5, 6), (3, 3, 1, 6), (9, 6)])
def test_a_kernel_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"kernel must be \(k, k, C\) for images \(1, 8, 8, 6\)"):
        depthwise_conv(jnp.zeros((1, 8, 8, 6)), jnp.zeros(shape))


def test_median_is_scipys():
    images = np.random.default_rng(0).random((2, 7, 9, 3)).astype(np.float32)
    images[0, :4] = np.round(images[0, :4] * 3) / 3  # ties
    expected = ndimage.median_filter(images, size=(1, 3, 3, 1), mode="nearest")
    np.testing.assert_array_equal(jax.jit(median3)(images), expected)


def test_gradient_goes_to_the_pixel_that_is_the_median():
    image = np.random.default_rng(0).permutation(25).reshape(1, 5, 5, 1).astype(np.float32)
    slope = np.asarray(jax.grad(lambda x: median3(x)[0, 2, 2, 0])(jnp.asarray(image)))
    middle = ndimage.median_filter(image[0, :, :, 0], size=3)[2, 2]
    np.testing.assert_array_equal(slope, (image == middle).astype(np.float32))


def test_restorer_can_return_the_median_itself_and_needs_few_weights_for_it():
    net = RestorationNet(width=4, encoder=(1,), middle=1)
    images, d = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32), jnp.ones((1, 8))
    params = jax.jit(net.init)(jax.random.key(0), images, d)
    look = jax.jit(net.apply)
    restored, _ = look(params, images, d)
    np.testing.assert_array_equal(restored, images)
    params["params"]["mix"]["bias"] = jnp.ones(12)
    restored, levels = look(params, images, d)
    np.testing.assert_allclose(restored, median3(images), atol=1e-6)
    assert levels[-1].shape == (1, 8, 8, 12) and np.max(levels[-1]) > 0
