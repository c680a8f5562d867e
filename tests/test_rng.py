"""Named streams: the same in every process for ever, apart by seed, name and step."""

import itertools

import jax
import numpy as np

from driqa_jax.train import rng


def data(key):
    return np.asarray(jax.random.key_data(key)).tolist()


def test_a_stream_is_the_same_for_ever():
    # Found once and kept: another value here means that no run can be repeated.
    assert data(rng.stream(0, "dropout", 7)) == [2631462806, 2197055503]
    assert data(rng.per_example(rng.stream(3, "init"), np.arange(2))) == [
        [1774302052, 743636776],
        [2763790474, 1342297968],
    ]


def test_streams_differ_by_seed_name_and_step():
    keys = [data(rng.stream(*which)) for which in itertools.product((0, 1), ("dropout", "chains"), (0, 1, 2**30))]
    assert len({tuple(key) for key in keys}) == len(keys)


def test_a_traced_step_gives_the_same_key():
    traced = jax.jit(lambda step: rng.stream(5, "swap", step))
    assert data(traced(np.int32(41))) == data(rng.stream(5, "swap", 41))


def test_the_keys_of_examples_do_not_depend_on_the_layout_of_the_batch():
    key, index = rng.stream(0, "dropout", 2), np.arange(40, 48, dtype=np.int32)
    whole = np.asarray(data(rng.per_example(key, index)))
    halves = [data(rng.per_example(key, half)) for half in np.split(index, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    np.testing.assert_array_equal(whole[::-1], data(rng.per_example(key, index[::-1].copy())))
    assert len(np.unique(whole, axis=0)) == len(index)
