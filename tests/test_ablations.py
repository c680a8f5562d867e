"""The ablations: one key each, of the same shapes, of nearly as many parameters, and blind to what they took away."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from tiny_model import random_params, tiny, views_of_noise

from driqa_jax import distributed
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.models.ablations import DEFAULTS, SWITCHES, chosen
from driqa_jax.models.controls import ForeignDegradation, LearnedDegradation, LearnedMaps, LearnedTokens
from driqa_jax.models.driqa import SIZES, assemble, build_model
from driqa_jax.models.interaction import READERS, InteractionBlock
from driqa_jax.models.layers import Add
from driqa_jax.protocol.plan import DataSets, make_plan
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.config import read
from driqa_jax.train.stages import finetune

# How far the number of parameters of lite, its backbone left out, may lie from that of the default.
TOLERANCE = 0.015
CASES = [(key, value) for key, choices in SWITCHES.items() for value in choices if key != "quality"]


def config(variant="tiny", **switches):
    return ml_collections.ConfigDict({"variant": variant, "types": 5, "dropout": 0.0, **switches})


def shapes(**switches):
    """Of lite without its backbone, which takes a second to trace."""
    size = SIZES["lite"]
    model = assemble(size._replace(backbone=LearnedMaps(size.backbone.channels)), config(**switches))
    params = jax.eval_shape(model.init, jax.random.key(0), *views_of_noise(1, 1))["params"]
    del params["quality_encoder"]["backbone"]
    return jax.tree.map(lambda leaf: leaf.shape, params, is_leaf=lambda leaf: hasattr(leaf, "shape"))


def count(tree):
    return sum(np.prod(shape) for shape in jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, tuple)))


@pytest.fixture(scope="module")
def full():
    return shapes()


@pytest.mark.parametrize("key, value", CASES)
def test_a_row_has_nearly_as_many_parameters_and_changes_no_other_part(key, value, full):
    found = shapes(**{key: value})
    assert abs(count(found) / count(full) - 1) < TOLERANCE
    # Parts whose parameters differ in names; a part that is new adds to them.
    forms = [{name: jax.tree.structure(part) for name, part in tree.items()} for tree in (found, full)]
    differ = {name for name in full if forms[0].get(name) != forms[1][name]}
    own = {"restoration": {"restoration_tokens"}, "inject": {"restoration"}, "interaction": {"interaction"}}
    assert differ <= ({"restoration_tokens"} if key == "baseline" else own.get(key, set()))
    assert set(found) - set(full) <= {"degradation_read"}


def test_without_the_backbone_the_read_outs_keep_their_shapes(full):
    size = SIZES["lite"]
    model = assemble(size, config(quality="none"))
    found = jax.eval_shape(model.init, jax.random.key(0), *views_of_noise(1, 1))["params"]
    maps = found["quality_encoder"].pop("backbone")
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(maps)} == set(size.backbone.channels)
    assert jax.tree.map(lambda leaf: leaf.shape, found) == full


def test_learned_maps_have_nothing_to_compute_again(tiny_variant):
    full, without = (build_model(config(quality=value), remat=True) for value in ("full", "none"))
    assert full.quality_encoder.backbone.remat and full.restoration.remat and without.restoration.remat
    assert without.quality_encoder.backbone == LearnedMaps(full.quality_encoder.backbone.channels)


def test_the_defaults_are_the_whole_model_and_older_configurations_lack_them():
    assert chosen({}) == DEFAULTS and chosen(config()) == DEFAULTS
    assert DEFAULTS == {
        "restoration": "full",
        "condition": "d",
        "inject": "film",
        "degradation": "full",
        "quality": "full",
        "interaction": "both",
        "baseline": False,
    }


@pytest.mark.parametrize("key", SWITCHES)
def test_an_unknown_value_is_refused_naming_the_key_and_the_choices(key):
    choices = ", ".join(map(str, SWITCHES[key]))
    with pytest.raises(ValueError, match=f"model.{key} is 'both ways'; the choices are {choices}$"):
        tiny(config(**{key: "both ways"}))


@pytest.mark.parametrize("switches", [{}, {"baseline": True}, {"degradation": "shuffled"}])
def test_nothing_of_a_tile_reaches_the_baseline_and_another_photos_tile_reaches_a_shuffled_model(switches):
    model = tiny(config(**switches))
    params = random_params(model)
    score = jax.jit(lambda *views: model.apply({"params": params}, *views)[0])
    whole, valid, tiles, boxes = views_of_noise(batch=4, tiles=1)
    other = tiles.copy()
    other[0] = views_of_noise(batch=1, tiles=1, seed=9)[2][0]
    moved = np.abs(np.asarray(score(whole, valid, other, boxes)) - np.asarray(score(whole, valid, tiles, boxes))) > 1e-6
    expected = {"baseline": [], "degradation": [0, 2]}.get(next(iter(switches), ""), [0])
    assert np.flatnonzero(moved).tolist() == expected


def test_who_reads_whom():
    rng = np.random.default_rng(0)
    d, q = (rng.standard_normal((2, n, 8)).astype(np.float32) for n in (4, 5))
    mask = np.ones((2, 5), bool)
    mask[:, -1] = False

    def reached(readers, d, q):
        block = InteractionBlock(2, *readers)
        params = block.init(jax.random.key(0), d, q, mask)

        def out(d, q):
            left, right = block.apply(params, d, q, mask)
            return left[:, 0].sum(), right[:, 0].sum()

        return jax.jacobian(out, argnums=(0, 1))(d, q)

    # One program for all: six would take six times as long.
    found = jax.jit(lambda d, q: {name: reached(readers, d, q) for name, readers in READERS.items()})(d, q)
    for name, gradients in found.items():
        (dd, dq), (qd, qq) = jax.tree.map(lambda x: float(np.abs(x[:, :-1]).max()), gradients)
        assert dd > 0 and qq > 0, name
        assert (qd > 0) == (name not in ("q2d", "none")), name
        assert (dq > 0) == (name not in ("d2q", "none")), name


def test_what_lies_outside_the_picture_is_read_by_no_reader():
    rng = np.random.default_rng(0)
    d, q = (rng.standard_normal((1, n, 8)).astype(np.float32) for n in (4, 5))
    other = q.copy()
    other[:, -1] = 7.0
    mask = np.array([[True, True, True, True, False]])

    @jax.jit
    def both(q, other):
        found = []
        for readers in READERS.values():
            block = InteractionBlock(2, *readers)
            params = block.init(jax.random.key(0), d, q, mask)
            found.append([block.apply(params, d, x, mask) for x in (q, other)])
        return found

    for (d1, q1), (d2, q2) in both(q, other):
        np.testing.assert_allclose(d1, d2, atol=1e-6)
        np.testing.assert_allclose(q1[:, :-1], q2[:, :-1], atol=1e-6)


def test_controls_have_the_shapes_of_what_they_replace_and_see_nothing_of_it():
    rng = np.random.default_rng(0)

    @jax.jit
    def run(levels, vectors, tokens, images):
        key = jax.random.key(0)
        return (
            LearnedTokens(8).init_with_output(key, levels, 3)[0],
            LearnedDegradation().init_with_output(key, vectors, tokens)[0],
            LearnedMaps((3, 5)).init_with_output(key, images, None)[0],
        )

    def inputs():
        return (
            [rng.random((6, 12, 12, 4), np.float32)],
            rng.random((3, 2, 8), np.float32),
            rng.random((3, 2, 9, 8), np.float32),
            rng.random((3, 64, 96, 3), np.float32),
        )

    first = run(*inputs())
    t, (d, tokens), maps = first
    assert t.shape == (6, 9, 8) and d.shape == (3, 2, 8) and tokens.shape == (3, 2, 9, 8)
    assert [x.shape for x in maps] == [(3, 2, 3, 3), (3, 2, 3, 5)]
    jax.tree.map(np.testing.assert_array_equal, first, run(*inputs()))
    for x in jax.tree.leaves(first):
        assert np.asarray(x).std() > 0
        np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_another_photos_vector_is_the_same_photos_on_any_number_of_devices(devices):
    vectors, tokens = np.arange(16.0).reshape(8, 1, 2), np.arange(32.0).reshape(8, 1, 2, 2)
    split = PartitionSpec(distributed.AXIS)
    mesh = distributed.make_mesh(jax.devices()[:devices])
    module = ForeignDegradation()

    def whole(v, t):
        return module.apply({}, v, t)

    for run in (whole, jax.shard_map(whole, mesh=mesh, in_specs=split, out_specs=(split, split), check_vma=False)):
        found = jax.jit(run)(vectors, tokens)
        np.testing.assert_array_equal(found[0], vectors[[4, 5, 6, 7, 0, 1, 2, 3]])
        np.testing.assert_array_equal(found[1], tokens[[4, 5, 6, 7, 0, 1, 2, 3]])


@pytest.mark.parametrize("name, rows", [("ablations", 8), ("ablations_more", 10), ("ablations_pixels", 7)])
def test_every_row_of_the_tables_can_be_planned_on_three_splits_within_the_training_part(name, rows, root):
    changes = ["base.data.kind=fake", "base.data.name=", "base.data.fake_count=200"]
    protocol = read(str(root / "configs" / "protocols" / f"{name}.py"), changes)
    runs = make_plan(protocol, DataSets())
    assert len(runs) == 3 * rows and runs[0].row == "full"
    official = FakeSource(200).column("split")
    for run in runs:
        assert not (run.split.assigned(FakeSource(200)).column("split")[official == "test"] != "").any()
        chosen(run.config["model"])
        rs_terms.selected(ml_collections.ConfigDict(run.config), rs_terms.OF_SCORES)
        finetune.view_rule(ml_collections.ConfigDict(run.config), 1)


def test_a_shift_is_the_identity_at_the_start_and_adds_after():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    condition = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    out, variables = Add().init_with_output(jax.random.key(0), x, condition)
    np.testing.assert_array_equal(out, x)
    kernel = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
    variables["params"]["add"]["kernel"] = jnp.asarray(kernel)
    np.testing.assert_allclose(Add().apply(variables, x, condition), x + (condition @ kernel)[:, None, None], rtol=1e-5)


def test_an_unconditioned_restorer_does_not_hear_the_vector():
    from driqa_jax.models.restoration import RestorationNet

    images = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    d, other = np.ones((1, 4), np.float32), np.full((1, 4), 3.0, np.float32)

    @jax.jit
    def levels(images, d, other):
        found = []
        for condition in SWITCHES["condition"].values():
            net = RestorationNet(8, (1,), middle=1, condition=condition)
            params = net.init(jax.random.key(0), images, d)
            params = jax.tree.map(lambda x: x + 0.1, params)
            found.append([net.apply(params, images, each)[0] for each in (d, other)])
        return found

    (heard, again), (deaf, same) = levels(images, d, other)
    assert np.abs(np.asarray(heard) - np.asarray(again)).max() > 1e-3
    np.testing.assert_array_equal(deaf, same)
