"""Kept features: what was written is read, half a chunk never is, and other pictures under old names are noticed."""

import os

import numpy as np
import pytest

from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.errors import UserError

KEY = {"view": {"short": 224}, "params": "abc"}
ODD = "set/with space,\x0b\r\u2028and\nline ends"  # str.splitlines would break it
RNG = np.random.default_rng(0)


def chunk(count):
    return {
        "cells": RNG.random((count, 2, 3), np.float32).astype(np.float16),
        "valid": RNG.integers(0, 9, (count, 2), np.int32),
    }


def test_rows_come_back_in_the_order_asked_for_from_several_chunks_and_after_opening_anew(tmp_path):
    store = FeatureStore(tmp_path, "quality", KEY)
    first, second = chunk(3), chunk(2)
    store.add(["a", "b", ODD], [b"1", b"2", b"3"], first)
    store.add(["d", "e"], [b"4", b"5"], second)
    for opened in (store, FeatureStore(tmp_path, "quality", KEY)):
        assert len(opened) == 5 and "b" in opened and "c" not in opened
        found = opened.read(["e", ODD, "a", "e"])
        for name in first:
            expected = [second[name][1], first[name][2], first[name][0], second[name][1]]
            np.testing.assert_array_equal(found[name], np.stack(expected))
            assert found[name].dtype == first[name].dtype
        assert opened.is_of(ODD, b"3") and not opened.is_of("a", b"3")


def test_another_key_is_another_store(tmp_path):
    FeatureStore(tmp_path, "quality", KEY).add(["a"], [b""], chunk(1))
    assert len(FeatureStore(tmp_path, "quality", {**KEY, "params": "abd"})) == 0
    assert len(FeatureStore(tmp_path, "tiles", KEY)) == 0
    # The order of a key's parts is no part of it.
    assert len(FeatureStore(tmp_path, "quality", dict(reversed(KEY.items())))) == 1


def test_a_chunk_that_was_not_finished_is_not_seen(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, "quality", KEY)
    store.add(["a"], [b"1"], chunk(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.add(["b"], [b"2"], chunk(1))
    (store.path / ".killed.123.part").mkdir()  # what a process leaves that is killed at once
    assert "b" not in store
    again = FeatureStore(tmp_path, "quality", KEY)
    assert len(again) == 1
    again.add(["b"], [b"2"], chunk(1))
    assert len(FeatureStore(tmp_path, "quality", KEY)) == 2


def test_two_that_write_the_same_chunk_at_once_do_no_harm(tmp_path):
    stores, arrays = [FeatureStore(tmp_path, "quality", KEY) for _ in range(2)], chunk(2)
    for store in stores:
        store.add(["a", "b"], [b"1", b"2"], arrays)
        np.testing.assert_array_equal(store.read(["b"])["cells"][0], arrays["cells"][1])
    assert len(FeatureStore(tmp_path, "quality", KEY)) == 2


def test_what_is_too_large_for_the_dtype_is_refused_with_advice(tmp_path):
    with np.errstate(over="ignore"):
        arrays = {"cells": np.full((1, 2), 1e6, np.float32).astype(np.float16)}
    with pytest.raises(UserError, match="cells is not finite as float16; set config.cache.dtype=float32"):
        FeatureStore(tmp_path, "quality", KEY).add(["a"], [b""], arrays)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="config.cache.folder=.*file: cannot be made"):
        FeatureStore(tmp_path / "file", "quality", KEY)
