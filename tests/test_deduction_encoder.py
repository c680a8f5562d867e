"""Tuning of the late layers of the degradation encoder."""

import dataclasses

import jax
import numpy as np
import pytest

from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.models.deduction import DeductionHead
from driqa_jax.models.degradation_encoder import DegradationEncoder
from experiments.deduction import encoder as tuning
from experiments.deduction.drops import Examples
from experiments.deduction.drops import targets as known
from experiments.deduction.features import TILES

TYPES, WIDTH, COUNT, PER_IMAGE = 3, 16, 96, 2
RECIPE = tuning.Recipe(steps=150, batch=16, rate=1e-2, mix=(("kadid", 1.0), ("rated", 0.3)))
EARLY_LAYERS = {"full", "conv1", "norm1", "conv2", "norm2", "conv3", "norm3", "standardize_statistics"}


@pytest.fixture(scope="module", params=[True, False], ids=["statistics", "no statistics"])
def case(request, tmp_path_factory):
    """An encoder, its parameters, its kept tiles and examples of which every second has noise that grows with its
    drop; in half of these the noise is in the first tile alone."""
    encoder = DegradationEncoder(WIDTH, TYPES, statistics=request.param, channels=(8, 8, 8, 8, 16), names=False)
    rng = np.random.default_rng(0)
    tiles = np.repeat(rng.random((COUNT, PER_IMAGE, 1, 1, 3), np.float32) * 0.5 + 0.25, 64, axis=2)
    tiles = np.repeat(tiles, 64, axis=3)
    types = np.where(np.arange(COUNT) % 2, rng.integers(0, 2, COUNT), -1)
    drops = np.where(types >= 0, rng.choice([0.3, 0.9], COUNT), 0).astype(np.float32)
    area = np.ones((COUNT, 4), np.float32) * (types >= 0)[:, None]
    area[1::4, 2:] = 0.0  # the cells near the second tile
    size = 0.3 * drops[:, None] * np.stack([area[:, 0], area[:, 2]], axis=1)
    tiles += size[:, :, None, None, None] * rng.normal(size=tiles.shape).astype(np.float32)
    examples = Examples(
        moments=np.zeros((COUNT, 2), np.float32),
        cells=np.zeros((COUNT, 4, 2), np.float32),
        vectors=np.zeros((COUNT, PER_IMAGE, WIDTH), np.float32),
        near=np.tile(np.repeat(np.eye(PER_IMAGE, dtype=np.float32), 2, axis=0), (COUNT, 1, 1)),
        central=np.ones((COUNT, 4), np.float32),
        area=area,
        base=np.full(COUNT, 0.8, np.float32),
        types=types,
        drops=drops,
        kinds=np.array(["kadid", "kadid", "kadid", "kadid", "rated", "kadid"] * (COUNT // 6)),
        faults=np.full((COUNT, TYPES), np.nan, np.float32),
        doubtful=np.zeros(COUNT, bool),
    )
    flat = tiles.reshape(-1, *tiles.shape[2:])
    params = encoder.init(jax.random.key(0), flat[:2])["params"]
    early = encoder.apply({"params": params}, flat, method="early")
    arrays = {
        name: np.asarray(array).reshape(COUNT, PER_IMAGE, *array.shape[1:])
        for name, array in zip(TILES, early, strict=True)
        if array is not None
    }
    store = FeatureStore(tmp_path_factory.mktemp("features"), "tiles", {})
    names = [str(number) for number in range(COUNT)]
    store.add(names, [b""] * COUNT, {**arrays, "other": np.zeros(COUNT)})
    return encoder, params, tuning.Tiles([(store, names[:50]), (store, names[50:])]), examples, flat


def targets(examples):
    return known(DeductionHead(TYPES), examples, [1.0] * TYPES)


def named_by_a_line(vectors, examples):
    """Mean absolute error of the drops of the tiles, by a linear fit."""
    shares = np.stack([examples.area[:, 0], examples.area[:, 2]], axis=1) * examples.drops[:, None]
    read = np.concatenate([vectors.reshape(-1, WIDTH), np.ones((vectors.size // WIDTH, 1))], axis=1).astype(np.float64)
    known = shares.reshape(-1)
    return np.abs(read @ np.linalg.lstsq(read, known, rcond=None)[0] - known).mean()


def test_vectors_of_kept_tiles_are_those_of_the_tiles(case):
    encoder, params, tiles, _, flat = case
    whole = np.asarray(encoder.apply({"params": params}, flat).vector).reshape(COUNT, PER_IMAGE, WIDTH)
    np.testing.assert_allclose(tuning.vectors(encoder, params, tiles), whole, atol=2e-3)
    rows = [3, 70]
    again = encoder.apply({"params": params}, tiles(rows), method="late")[1]
    np.testing.assert_allclose(again.reshape(2, PER_IMAGE, WIDTH), whole[rows], atol=1e-4)


def test_tuned_vectors_hold_the_drop_of_each_tile_and_early_layers_stay(case):
    encoder, params, tiles, examples, _ = case
    tuned = tuning.tune(encoder, params, tiles, examples, targets(examples), RECIPE)
    assert set(tuned) == set(params)
    for name, part in params.items():
        same = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), part, tuned[name]))
        assert same == (name in EARLY_LAYERS), name
    before, after = (named_by_a_line(tuning.vectors(encoder, each, tiles), examples) for each in (params, tuned))
    assert after < 0.7 * before, (before, after)


def test_equal_recipes_tune_alike_and_seeds_differ(case):
    encoder, params, tiles, examples, _ = case
    short = dataclasses.replace(RECIPE, steps=3)
    given = encoder, params, tiles, examples, targets(examples)
    first, second, other = (tuning.tune(*given, dataclasses.replace(short, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["conv4"]["kernel"], second["conv4"]["kernel"])
    assert (first["conv4"]["kernel"] != other["conv4"]["kernel"]).any()
