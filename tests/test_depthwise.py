"""The depthwise convolution: values and both gradients are those of XLA's grouped convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from driqa_jax.models.ops import depthwise_conv

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
