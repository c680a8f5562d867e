"""A program is traced and compiled once a shape, and not at all where an earlier process has kept it."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from driqa_jax.inference import executables
from driqa_jax.inference.executables import Program
from driqa_jax.inference.program import PREDICTIONS, Stage

PARAMS = {"w": jnp.arange(3.0)}


def stages(traced, factor=2.0, options=None):
    def first(params, views):
        traced.append("first")
        return {"sum": (views["x"] * params["w"][None, :]).sum(axis=1)}

    def last(params, views):
        traced.append("last")
        return {PREDICTIONS: factor * views["sum"] + views["x"].shape[0]}

    return Stage(first, options or {}), Stage(last, {})


def program(folder, traced, identity=1, **kwargs):
    return Program(lambda: stages(traced, **kwargs), jax.devices()[0], folder, identity)


def test_the_name_of_an_executable_covers_every_source_of_the_model(monkeypatch):
    before = executables._sources()
    assert len(before) > 32 * 15  # one sha256 per file
    monkeypatch.setattr(executables, "_SOURCES", (*executables._SOURCES, "moved_away/*.py"))
    with pytest.raises(RuntimeError, match=r"no source files match moved_away/\*\.py"):
        executables._sources()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the executables of one shape, and what they gave."""
    folder, traced = tmp_path_factory.mktemp("kept"), []
    views = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    found = np.asarray(program(folder, traced)(PARAMS, views))
    np.testing.assert_allclose(found, 2 * (views["x"] * [0, 1, 2]).sum(axis=1) + 2)
    assert sorted(traced) == ["first", "last"]
    return folder, views, found


def test_cached_executables_are_not_traced_again(kept):
    folder, views, found = kept
    traced = []
    again = program(folder, traced)
    for _ in range(2):
        np.testing.assert_array_equal(again(PARAMS, views), found)
    assert traced == [] and len(again._compiled) == 1
    again(PARAMS, {"x": np.ones((1, 3), np.float32)})
    assert len(again._compiled) == 2 and sorted(traced) == ["first", "last"]


def test_each_model_and_shape_has_its_own_file(kept):
    folder, views, found = kept
    before = {file.name for file in folder.iterdir()}
    traced = []
    other = np.asarray(program(folder, traced, identity=2, factor=3.0)(PARAMS, views))
    assert traced and other[1] != found[1]
    program(folder, traced)(PARAMS, {"x": np.ones((5, 3), np.float32)})
    assert len({file.name for file in folder.iterdir()} - before) == 2


def test_a_corrupt_file_is_compiled_again(kept, tmp_path):
    folder, views, found = kept
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100])
    traced = []
    np.testing.assert_array_equal(program(tmp_path, traced)(PARAMS, views), found)
    assert traced


def test_no_folder_disables_the_cache_and_unknown_options_are_dropped(tmp_path):
    traced = []
    views = {"x": np.ones((1, 3), np.float32)}
    found = program(None, traced, options={"xla_no_such_option": True})(PARAMS, views)
    assert float(found[0]) == 7.0
    missing = tmp_path / "gone"
    np.testing.assert_array_equal(program(missing, traced)(PARAMS, views), found)
    assert not missing.exists()


def test_concurrent_threads_compile_a_shape_once():
    traced, found = [], []
    shared, views = program(None, traced), {"x": np.ones((1, 3), np.float32)}
    threads = [threading.Thread(target=lambda: found.append(float(shared(PARAMS, views)[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7.0] * 4 and sorted(traced) == ["first", "last"]
