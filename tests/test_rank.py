"""Rank pairs: what is drawn, what is made of it, and that the loss reads it and no other loss does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graded_loss import graded
from PIL import Image

from driqa_jax.data.views import make_view
from driqa_jax.degradations import NAMES
from driqa_jax.degradations.recipes import BADLY_RESTORED
from driqa_jax.errors import UserError
from driqa_jax.train.auxiliary import ranking
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune


def configured():
    config = default()
    config.view.short, config.view.canvas, config.view.tile = 96, (96, 128), 64
    config.loss.rank, config.loss.rs = 0.5, "none"
    return config


@pytest.fixture
def config():
    return configured()


@pytest.fixture(scope="module")
def make():
    """One program for all tests of what is made."""
    config = configured()
    return jax.jit(functools.partial(ranking.views, config, finetune.view_rule(config, 1)))


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    smooth = random.integers(0, 256, (8, 1, 6, 6, 3), dtype=np.uint8)
    tiles = np.stack([np.asarray(Image.fromarray(x[0]).resize((64, 64)))[None] for x in smooth])
    return {
        "whole": random.integers(0, 256, (8, 96, 128, 3), dtype=np.uint8),
        "valid": np.full((8, 2), 96, np.int32),
        "tiles": tiles,
        "tile_boxes": np.zeros((8, 1, 4), np.float32),
        "mos": np.linspace(0, 1, 8, dtype=np.float32),
        "percentile": np.linspace(0, 1, 8, dtype=np.float32),
        "dataset": np.zeros(8, np.int32),
        "index": np.arange(40, 48, dtype=np.int32),
    }


def test_pairs_are_of_ordered_types_a_level_apart_or_of_a_pristine_crop_and_a_bad_restoration():
    kinds, severities = jax.jit(jax.vmap(ranking.draw))(jax.random.split(jax.random.key(0), 4000))
    names = {NAMES[kind] for kind in np.unique(kinds)}
    assert names == {entry.name for entry in ranking.ORDERED} | set(BADLY_RESTORED)
    better, worse = np.asarray(severities).T
    assert (better >= 0).all() and (worse <= 1).all()
    plain = np.isin(kinds, [NAMES.index(entry.name) for entry in ranking.ORDERED if entry.name not in BADLY_RESTORED])
    assert 0.2 < (better[plain] == 0).mean() < 0.3
    halo = np.asarray(kinds) == NAMES.index("halo")
    assert (better[halo] == 0).all() and worse[halo].min() >= 0.2 and worse[halo].max() > 0.9
    for row, entry in enumerate(ranking.ORDERED):
        mine = np.asarray(kinds) == NAMES.index(entry.name)
        levels = [np.interp(x[mine], ranking._SEVERITIES[row], np.arange(6)) for x in (better, worse)]
        assert (levels[1] - levels[0] > 0.99).all(), entry.name


def test_a_type_can_be_drawn_more_often():
    often = (("color_shift", 5), ("jpeg", 0))
    kinds, _ = jax.jit(jax.vmap(lambda key: ranking.draw(key, often)))(jax.random.split(jax.random.key(0), 4000))
    share = {name: float((np.asarray(kinds) == NAMES.index(name)).mean()) for name in ("color_shift", "halo", "jpeg")}
    assert share["jpeg"] == 0 and 3.5 < share["color_shift"] / share["halo"] < 6.5

    def require(often):
        config = configured()
        config.rank.often = often
        ranking.require_valid(config)

    for bad in (("haze", 1.5), ("brighten", 2), ("no_such", 2)):
        with pytest.raises(UserError, match=rf"config.rank.often: expected pairs .* got \('{bad[0]}', "):
            require((bad,))
    with pytest.raises(UserError, match="config.rank.often: expected pairs .* got 'halo'"):
        require(("halo", 2))
    with pytest.raises(UserError, match="leaves no type to draw"):
        require(tuple((entry.name, 0) for entry in ranking._TYPES))


def test_views_are_those_of_a_photograph_of_the_tiles_size(config, make, batch):
    rule = finetune.view_rule(config, 1)
    made = make(batch, 3)
    assert {name: x.shape for name, x in made.items()} == {
        "whole": (4, 96, 128, 3), "valid": (4, 2), "tiles": (4, 1, 64, 64, 3), "tile_boxes": (4, 1, 4), "index": (4,)
    }  # fmt: skip
    np.testing.assert_array_equal(made["index"], [40, 44, 40, 44])
    for k in range(4):
        view = make_view(np.asarray(made["tiles"][k, 0]), rule, (96, 128))
        for name in ("valid", "tiles", "tile_boxes"):
            np.testing.assert_array_equal(made[name][k], view[name])
        apart = np.abs(view["whole"].astype(int) - np.asarray(made["whole"][k]))
        assert apart.max() <= 2 and apart.mean() < 0.5  # Pillow rounds between its two passes


def test_the_worse_lies_further_from_the_crop_and_devices_make_the_same_pairs(make, batch):
    right = []
    for first in range(0, 64, 8):
        made = make(batch | {"index": first + np.arange(8, dtype=np.int32)}, 0)
        pictures, crops = np.asarray(made["tiles"][:, 0], float), batch["tiles"][::4, 0].astype(float)
        better, worse = (np.sqrt(np.square(x - crops).mean(axis=(1, 2, 3))) for x in np.split(pictures, 2))
        right.extend(worse > better)
    assert len(right) == 16 and np.mean(right) > 0.9
    # A pair hangs on its photo alone: another device, with other neighbors, makes the same.
    moved = {name: np.roll(x, 4, axis=0) for name, x in batch.items()}
    pairs, swapped = (np.asarray(make(x, 0)["tiles"]) for x in (batch, moved))
    np.testing.assert_array_equal(swapped, pairs[[1, 0, 3, 2]])


def test_pairs_enter_their_own_loss_alone(config, make, batch, monkeypatch):
    def look(params, views, keys):
        assert len(keys) == len(views["tiles"])
        mos = params["scale"] * views["tiles"].astype(jnp.float32).std(axis=(1, 2, 3, 4)) / 255.0
        return mos, {"mos_aux": mos}

    def terms(weight):
        config.loss.rank = weight
        return graded(config, look, finetune.view_rule(config, 1), batch)

    made = make(batch, 0)
    # What `make` has compiled already; the step is 0 in both.
    monkeypatch.setattr(ranking, "views", lambda *_: {name: jnp.asarray(x) for name, x in made.items()})
    (value, told), slope = terms(0.5)
    (plain, without), flat = terms(0.0)
    assert told.pop("rank") > 0 and told.keys() == without.keys()
    for name in told:
        np.testing.assert_allclose(told[name], without[name], rtol=1e-6)
    better, worse = np.split(np.asarray(made["tiles"], float).std(axis=(1, 2, 3, 4)) / 255.0, 2)
    expected = np.maximum(0, 0.03 - (better - worse)).mean()
    np.testing.assert_allclose(value - plain, 0.5 * expected, rtol=1e-3)
    assert slope["scale"] != flat["scale"]


def test_a_batch_that_makes_no_whole_pairs_is_refused(config, batch):
    config.rank.every = 3
    with pytest.raises(UserError, match=r"config.rank.every=3 does not divide the 8 examples"):
        ranking.views(config, finetune.view_rule(config, 1), batch, 0)
