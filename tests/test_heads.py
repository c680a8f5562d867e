"""Training on kept features: the same score and the same gradient as from pixels, and every picture looked at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_params, tiny

from driqa_jax import distributed
from driqa_jax.checkpoints.load import describe, load
from driqa_jax.checkpoints.weights import flatten, save_weights, unflatten
from driqa_jax.data.pipeline import evaluation_batches
from driqa_jax.data.source import Subset
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models import driqa
from driqa_jax.train import initialization, loop, optim
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune, frozen_features

pytestmark = pytest.mark.usefixtures("tiny_variant")
PICTURES, STEPS = 18, 3


def configured(folder, **changes):
    config = default()
    config.model.types = NAMES
    config.stage, config.model.variant = "heads", "tiny"
    config.data.kind, config.data.fake_count = "fake", PICTURES
    config.view.short, config.view.canvas, config.view.tile = 64, (64, 96), 64
    config.batch_size, config.steps, config.log_every = 8, STEPS, 1
    config.cache.folder, config.cache.dtype = str(folder / "features"), "float32"
    config.loss.plcc = 0.5
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    return random_params(tiny(configured(tmp_path_factory.mktemp("unused")).model))


@pytest.mark.long
def test_kept_features_give_the_score_and_the_gradient_of_the_pixels(params, tmp_path):
    config, source = configured(tmp_path), FakeSource(PICTURES)
    model = driqa.build_model(config.model)
    pixels = finetune.predict(config, model, distributed.make_mesh())(params, source)
    kept = frozen_features.predict(config, model, distributed.make_mesh())(params, source)
    np.testing.assert_allclose(kept[0], pixels[0], atol=1e-5)
    np.testing.assert_array_equal(kept[1], pixels[1])
    assert np.std(kept[0]) > 1e-3
    half = configured(tmp_path, **{"cache.dtype": "float16"})
    rounded = frozen_features.predict(half, model, distributed.make_mesh())(params, source)[0]
    np.testing.assert_allclose(rounded, pixels[0], atol=2e-3)
    assert (rounded != kept[0]).any()

    # The loss of one batch, dropout and all, from pixels and from what is kept.
    rule = finetune.view_rule(config, config.view.eval_tiles)
    batch = next(evaluation_batches(source, rule, config.view.canvas, config.batch_size))
    labels = {key: batch[key] for key in ("mos", "percentile", "dataset", "index")}
    seen = {**frozen_features.KeptFeatures(config, model, params, source).read(batch["index"]), **labels}
    flat = flatten(params)
    standing = {path: value for path, value in flat.items() if not optim.is_trained(config, path)}
    trained = {path: value for path, value in flat.items() if path not in standing}
    mesh = distributed.make_mesh(jax.devices()[:1])

    def gradients(loss, batch):
        def step(trained, batch):
            value, found = jax.value_and_grad(lambda t: loss(unflatten(t, standing), batch, 0)[0])(trained)
            return found, {"loss": value}

        return jax.tree.map(np.asarray, distributed.map_step(step, mesh)(jax.tree.map(jnp.array, trained), batch))

    from_pixels = gradients(finetune.make_loss(config, model), batch)
    from_kept = gradients(frozen_features.make_loss(config, model), seen)
    np.testing.assert_allclose(from_kept[1]["loss"], from_pixels[1]["loss"], rtol=1e-5)
    total = np.sqrt(sum(np.sum(x**2) for x in from_pixels[0].values()))
    apart = np.sqrt(sum(np.sum((from_kept[0][k] - x) ** 2) for k, x in from_pixels[0].items()))
    assert total > 0 and apart < 1e-4 * total
    head = "interaction/block0/q_reads_d/value/kernel"
    assert np.abs(from_pixels[0][head]).max() > 0
    np.testing.assert_allclose(from_kept[0][head], from_pixels[0][head], atol=1e-5 * total)


def test_a_picture_is_looked_at_once_and_a_stopped_computation_goes_on(params, tmp_path, monkeypatch):
    config, source = configured(tmp_path), FakeSource(PICTURES)
    model = driqa.build_model(config.model)
    looked = []

    def counted(part, *args, **options):
        looked.extend(part.column("image_id").tolist())
        return evaluation_batches(part, *args, **options)

    monkeypatch.setattr(frozen_features, "evaluation_batches", counted)
    monkeypatch.setattr(frozen_features, "CHUNK", 5)
    names = source.column("image_id").tolist()
    with monkeypatch.context() as patch:
        add, calls = frozen_features.FeatureStore.add, []

        def stopped(self, *args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            add(self, *args)

        patch.setattr(frozen_features.FeatureStore, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            frozen_features.KeptFeatures(config, model, params, source)
    looked.clear()
    # Another part of the same set computes no more than what it has in addition: 10 of the 12 are there already.
    frozen_features.KeptFeatures(config, model, params, Subset(source, range(12), "part"))
    assert looked == names[10:12] + names[:12]  # of the quality store; then of the tiles'
    looked.clear()
    frozen_features.KeptFeatures(config, model, params, source)
    assert looked == names[12:] * 2
    looked.clear()
    other = {**params, "restoration": jax.tree.map(lambda x: x + 1, params["restoration"])}
    frozen_features.KeptFeatures(config, model, other, source)
    assert looked == names  # another R: the backbone's features are shared


def test_other_pictures_under_the_same_names_are_refused(params, tmp_path):
    config, source = configured(tmp_path), FakeSource(PICTURES)
    model = driqa.build_model(config.model)
    frozen_features.KeptFeatures(config, model, params, Subset(source, range(8), "part"))
    with pytest.raises(UserError, match="holds features of another image named"):
        frozen_features.KeptFeatures(config, model, params, FakeSource(PICTURES, size=72))


@pytest.fixture(scope="module")
def start(params, tmp_path_factory):
    """A pretraining's weights file, of the tiny model."""
    path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
    config = configured(path.parent, stage="pretrain")
    parts = {name: params[name] for name in ("degradation_encoder", "restoration")}
    save_weights(path, parts, describe({"config": config.to_dict(), "examples": 0, "step": 0}))
    return str(path)


@pytest.fixture
def imagenet(params, monkeypatch):
    monkeypatch.setattr(initialization, "imagenet_weights", lambda: (params["quality_encoder"]["backbone"], None))


@pytest.mark.long
def test_a_run_trains_the_heads_alone_resumes_and_leaves_a_whole_model(start, imagenet, tmp_path, capsys):
    config = configured(tmp_path, init=start)
    assert loop.train(config, str(tmp_path / "run")) == 0
    found, metadata, _ = load(tmp_path / "run")
    model = driqa.build_model(config.model)
    before, after = flatten(initialization.encoders(config, model)), flatten(found)
    assert before.keys() == after.keys()
    moved = {path for path in before if (np.asarray(before[path]) != np.asarray(after[path])).any()}
    standing = ("degradation_encoder/", "restoration/", "quality_encoder/backbone/")
    assert not {path for path in moved if path.startswith(standing)}
    assert {"quality_encoder/vector/kernel", "predictor/score/kernel", "rs_projection_d/kernel"} <= moved
    assert {"quality_encoder/standardize_vector/shift"} <= moved  # measured
    capsys.readouterr()
    assert loop.train(config, str(tmp_path / "run")) == 0
    assert f"resumed at step {STEPS}" in capsys.readouterr().err
    assert metadata["config"]["restoration"] == "full"


def test_ablations_take_from_a_pretraining_what_they_do_not_leave_as_drawn(start, imagenet, params, tmp_path):
    def encoders(**changes):
        config = configured(tmp_path, init=start, **changes)
        return initialization.encoders(config, driqa.build_model(config.model))

    def same(one, other):
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return all(np.array_equal(np.float16(a), np.float16(b)) for a, b in pairs)

    drawn = {
        "": [],
        "model.restoration": ["restoration"],
        "model.degradation": ["degradation_encoder"],
    }
    value = {"model.restoration": "random_frozen", "model.degradation": "no_pretrain"}
    constants = "standardize_statistics"  # measured, not learned
    for key, parts in drawn.items():
        found = encoders(**({key: value[key]} if key else {}))
        for name in ("degradation_encoder", "restoration"):
            assert same(found[name], params[name]) == (name not in parts), (key, name)
        assert same(found["degradation_encoder"][constants], params["degradation_encoder"][constants])
    # A part that is drawn is the same for every seed: its features are computed once. The heads are not.
    one, two = (encoders(seed=seed, **{"model.restoration": "random_frozen"}) for seed in (1, 2))
    assert same(one["restoration"], two["restoration"]) and not same(one["interaction"], two["interaction"])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model.restoration": "finetune"}, "trains R, but the stage 'heads' keeps the features of a fixed R"),
        pytest.param(
            {"model.inject": "add"},
            "its R was trained with model.inject=film.*pretrain another",
            marks=pytest.mark.long,
        ),
        ({"model.interaction": "all"}, "config.model.interaction must be one of both, d2q"),
        ({"loss.rs": "ratio"}, "config.loss.rs='ratio' needs a second view"),
        ({"loss.rank": 0.2}, "config.loss.rank needs pixels"),
        ({"loss.same": 0.2}, "config.loss.same needs pixels"),
        ({"view.shrink": 0.8}, "config.view.shrink changes an image at each step"),
        ({"view.quality": 90}, "config.view.quality changes an image at each step.* set it to 100"),
        ({"cache.dtype": "int8"}, "config.cache.dtype must be one of float16, float32, got 'int8'"),
    ],
)
def test_what_cannot_be_trained_on_kept_features_is_refused(changes, said, start, imagenet, tmp_path):
    with pytest.raises(UserError, match=said):
        loop.train(configured(tmp_path, init=start, **changes), str(tmp_path / "run"))


@pytest.mark.long
def test_a_restorer_of_another_form_is_pretrained_on_the_same_encoder(start, params, tmp_path):
    config = configured(tmp_path, stage="pretrain", init=start, **{"model.inject": "add"})
    found = initialization.pretraining_params(config, driqa.build_model(config.model), None)
    encoder, given = flatten(found["degradation_encoder"]), flatten(params["degradation_encoder"])
    assert all(np.array_equal(np.float16(encoder[path]), np.float16(value)) for path, value in given.items())
    assert "add" in found["restoration"]["middle_film"] and "film" in params["restoration"]["middle_film"]


def test_finetuning_the_restorer_is_one_key(tmp_path):
    config = configured(tmp_path, stage="finetune")
    assert not optim.is_trained(config, "restoration/exit/kernel")
    config.model.restoration = "finetune"
    assert optim.is_trained(config, "restoration/exit/kernel")
    assert not optim.is_trained(config, "degradation_encoder/full/kernel")
