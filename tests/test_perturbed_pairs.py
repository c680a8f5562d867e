"""Twins: what is done to a picture, where the loader puts it, and that the loss of twins reads it and no other does."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graded_loss import graded
from PIL import Image

from benchmarks.stage2 import synthetic_batch
from benchmarks.topology import abstract_batch
from driqa_jax import distributed
from driqa_jax.data.perturbed_pairs import Twins
from driqa_jax.data.pipeline import finetune_batches
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.train.auxiliary import consistency
from driqa_jax.train.auxiliary.registry import group_size
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune

PHOTO = pathlib.Path(__file__).resolve().parent.parent / "examples" / "photos" / "city.jpg"
RULE, CANVAS = ViewRule(short=64, long=96, tile=32, tiles=1, canvases=((64, 64),)), (64, 64)


def stream(**options):
    return next(finetune_batches(FakeSource(8, size=80), RULE, CANVAS, 8, seed=3, **options))


def test_a_twin_is_resized_encoded_or_both_and_never_further_than_asked():
    photo = Image.open(PHOTO).convert("RGB").resize((300, 200))
    made = [Twins(1, 0.8, 90).twin(photo, np.random.default_rng(i)) for i in range(300)]
    smaller = [twin for twin in made if twin.size != photo.size]
    assert 170 < len(smaller) < 230
    assert min(twin.width for twin in smaller) >= 240 and all(abs(x.width / 300 - x.height / 200) < 0.01 for x in made)
    encoded = [np.asarray(x, float) - np.asarray(photo) for x in made if x.size == photo.size]
    assert all(0.1 < np.abs(change).mean() < 5 for change in encoded)


@pytest.mark.parametrize("field, value", [("every", 0), ("shrink", 0.0), ("shrink", 1.1), ("quality", 99)])
def test_twins_that_cannot_be_are_refused_by_the_name_of_the_key(field, value):
    config = default()
    config.loss.same, config.batch_size, config.twins[field] = 1.0, 8 * jax.device_count(), value
    with pytest.raises(UserError, match=rf"config.twins.{field}={value}"):
        consistency.configured_twins(config)


def test_a_batch_that_the_devices_cannot_share_with_its_twins_is_refused():
    config = default()
    config.loss.same, config.batch_size = 1.0, 6
    with pytest.raises(UserError, match=r"config.twins.every=4 does not divide .*set config.batch_size to a multiple"):
        consistency.configured_twins(config)


def test_every_so_many_th_picture_has_a_twin_at_the_same_places_and_nothing_else_changes():
    plain, batch = stream(), stream(twins=Twins(4, 0.8, 90))
    for name, x in plain.items():
        np.testing.assert_array_equal(batch[name], x)
    views = ("whole", "valid", "tiles", "tile_boxes")
    assert batch.keys() - plain.keys() == {f"twin_{name}" for name in views}
    assert all(len(x) == 2 for name, x in batch.items() if name.startswith("twin_"))
    again = stream(twins=Twins(4, 0.8, 90))
    for name, x in batch.items():
        np.testing.assert_array_equal(again[name], x)
    # As it is: the picture itself. Changed: the same part of it, give or take the resize.
    untouched = stream(twins=Twins(4, 1.0, 98))
    corners = [untouched["twin_tile_boxes"], batch["twin_tile_boxes"]]
    np.testing.assert_allclose(corners[0], plain["tile_boxes"][::4], atol=0.02)
    np.testing.assert_allclose(corners[1][..., :2], plain["tile_boxes"][::4, :, :2], atol=0.15)
    for name in ("whole", "tiles"):
        apart = np.abs(untouched[f"twin_{name}"].astype(float) - plain[name][::4])
        assert apart.mean() < 8, name


def test_twins_enter_their_own_loss_alone():
    config = default()
    config.view.short, config.view.canvas, config.view.tile = 64, CANVAS, 32
    config.loss.rs = "none"
    batch = stream(twins=Twins(4, 0.8, 90))
    # A twin that is brighter, so that the term is known.
    batch["twin_tiles"] = np.minimum(batch["tiles"][::4], 200) + np.uint8(51)

    def look(params, views, keys):
        assert len(keys) == len(views["tiles"])
        mos = params["scale"] * views["tiles"].astype(jnp.float32).mean(axis=(1, 2, 3, 4)) / 255.0
        return mos, {"mos_aux": mos}

    def terms(weight):
        config.loss.same = weight
        return graded(config, look, RULE, batch)

    (value, told), slope = terms(0.5)
    (plain, without), flat = terms(0.0)
    tiles = batch["tiles"][::4], batch["twin_tiles"]
    own, twin = (np.asarray(x, float).mean(axis=(1, 2, 3, 4)) / 255.0 for x in tiles)
    np.testing.assert_allclose(told.pop("same"), np.abs(twin - own).mean(), rtol=1e-4)
    for name in told:
        np.testing.assert_allclose(told[name], without[name], rtol=1e-6)
    np.testing.assert_allclose(value - plain, 0.5 * np.abs(twin - own).mean(), rtol=1e-3)
    assert slope["scale"] != flat["scale"]


def test_a_cpu_is_cut_into_parts_that_keep_pairs_and_twins_whole(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [distributed.side_by_side(16, group) for group in (0, 1, 4, 16)] == [8, 8, 4, 1]
    config = default()
    assert group_size(config) == 1
    config.loss.rank, config.loss.same, config.rank.every, config.twins.every = 0.1, 1.0, 4, 6
    assert group_size(config) == 12
    config.accumulate = 2
    assert group_size(config) == 24
    config.stage, config.pretrain.block = "pretrain", 8
    assert group_size(config) == 16
    config.stage, config.accumulate = "heads", 1
    assert group_size(config) == 1


def test_a_batch_to_measure_with_has_the_twins_of_a_real_one():
    config = default()
    config.view.short, config.view.canvas, config.view.tile = 64, CANVAS, 32
    config.loss.same, config.batch_size = 1.0, 4 * jax.device_count()
    real = next(finetune.batches(config, FakeSource(8, size=80), 0, 0, 1))
    made = synthetic_batch(config)
    assert {name: (x.shape, x.dtype) for name, x in made.items()} == {n: (x.shape, x.dtype) for n, x in real.items()}
    described = abstract_batch(config, distributed.make_mesh())
    assert {name: x.shape for name, x in described.items()} == {name: x.shape for name, x in real.items()}
