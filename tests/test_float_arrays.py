"""Arrays are taken by their values: every float type is a float, and what rounding passes 0 and 1 by is clipped."""

import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from driqa_jax.data.decode import decode

# Every float type of numpy and of JAX, with the largest step by which rounding can pass 1.
FLOATS = {
    np.dtype(kind): max(float(ml_dtypes.finfo(kind).eps), 2**-10)
    for kind in (
        np.float16, np.float32, np.float64, np.longdouble, ">f4", ml_dtypes.bfloat16,
        *(getattr(ml_dtypes, name) for name in dir(ml_dtypes) if re.fullmatch(r"float[468]_e\w+", name)),
    )
}  # fmt: skip


def test_the_table_of_float_types_is_that_of_jax():
    of_jax = {np.dtype(kind) for kind in vars(jnp).values() if isinstance(kind, type(jnp.float32))}
    floats = {kind for kind in of_jax if jnp.issubdtype(kind, jnp.floating)}
    assert {np.dtype(jnp.bfloat16), np.dtype(jnp.float8_e4m3fn)} < floats <= FLOATS.keys()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_of_every_type_are_taken_by_their_values(dtype):
    exact = [0.5, 1.0] if "e8m0" in dtype.name else [0.0, 0.5, 1.0]  # that type has no zero
    picture = np.array([exact]).astype(dtype)
    expected = np.rint(255 * np.array([exact])).astype(np.uint8)
    np.testing.assert_array_equal(decode(picture)[..., 1], expected)
    step = FLOATS[dtype]
    limit = float(ml_dtypes.finfo(dtype).max)
    beyond = np.array([[0.5, 1.0 + step]]).astype(dtype)
    if limit >= 1.0 + step:
        np.testing.assert_array_equal(decode(beyond)[..., 0], [[128, 255]])
    too_far = np.array([[0.5, 1.0 + 4 * step]]).astype(dtype)
    if limit >= 1.0 + 4 * step:
        with pytest.raises(ValueError, match=r"floats must lie in \[0, 1\]"):
            decode(too_far)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bad", [-0.5, 1.01, 255.0, 1e30, np.inf, -np.inf, np.nan])
def test_floats_beyond_rounding_are_refused(dtype, bad):
    if dtype is ml_dtypes.bfloat16 and bad == 1.01:
        bad = 1.02  # its next value after 1 is 1.0078
    with np.errstate(over="ignore"):
        picture = np.array([[0.5, bad]]).astype(dtype)
    with pytest.raises(ValueError, match=r"mine: .* floats must lie in \[0, 1\] \(divide by 255 first"):
        decode(picture, name="mine")


def test_what_rounding_passes_is_clipped():
    ramp = np.minimum(np.linspace(0, 1.5, 64, dtype=np.float32), 1).reshape(1, -1)
    for passed in (ramp * np.float32(1.0000001), ramp - np.float32(1e-7)):
        assert passed.max() > 1 or passed.min() < 0
        # A value between two levels may go to the other one.
        np.testing.assert_allclose(decode(passed).astype(int), decode(ramp), atol=1)
        np.testing.assert_array_equal(decode(passed)[:, [0, -1]], decode(ramp)[:, [0, -1]])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        decode(ramp * np.float32(1.01))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bfloat16", "float16", "float8_e4m3fn"])
def test_arrays_of_jax_are_those_of_numpy(dtype):
    values = np.linspace(0, 1, 24).reshape(2, 4, 3)
    if dtype.startswith("uint"):
        values = values * np.iinfo(dtype).max
    picture = jnp.asarray(values).astype(dtype)
    np.testing.assert_array_equal(decode(picture), decode(np.asarray(picture)))
    if not dtype.startswith("float8"):
        levels = values if dtype == "uint8" else values / 257 if dtype == "uint16" else values * 255
        assert np.abs(decode(picture) - levels).max() <= (2 if dtype == "bfloat16" else 1)


@pytest.mark.parametrize("dtype", [bool, "int8", "int16", "int32", "int64", "uint32", "uint64", "complex64"])
def test_numbers_without_a_known_white_are_refused(dtype):
    for kind in (dtype, ml_dtypes.uint4, ml_dtypes.int4):
        with pytest.raises(ValueError, match="an image is uint8, uint16 or floating point"):
            decode(np.zeros((2, 2), kind))


def test_values_halfway_between_two_levels_do_not_depend_on_rounding():
    halves = (np.arange(255, dtype=np.float64)[:, None] + 0.5) / 255
    image = np.broadcast_to(halves[:, :, None], (255, 16, 3)).astype(np.float32)
    expected = decode(image)
    for factor in (1 - 1e-7, 1 + 1e-7):
        np.testing.assert_array_equal(decode(image * np.float32(factor)), expected)
