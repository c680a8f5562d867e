"""`config.data.sources`: several data sets with weights in one training, each with its own scale, compared within."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_config
from small_sets import draw
from tiny_model import random_params, tiny

from driqa_jax import distributed
from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.data.pipeline import Place, finetune_batches, order_of, pretrain_batches
from driqa_jax.data.source import Joined
from driqa_jax.data.splits import require_separate_sources, select
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.losses import plcc_loss
from driqa_jax.protocol import config as protocol
from driqa_jax.protocol.plan import DataSets, make_plan
from driqa_jax.train import export
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.config import data_sets, default, fixed_on_resume, read, set_key
from driqa_jax.train.initialization import validation_overlap
from driqa_jax.train.loop import sources, train
from driqa_jax.train.stages import finetune
from driqa_jax.train.stages.registry import agreement

RULE, CANVAS = ViewRule(short=32, long=32, tile=32, tiles=1, canvases=((32, 32),)), (32, 32)
RNG = np.random.default_rng(5)


def two(first=6, second=4, weights=(2.0, 1.0)):
    parts = {"one": FakeSource(first, size=32), "other": FakeSource(second, size=32, seed=1, name="other")}
    return Joined(parts, weights)


def stream(source, batch_size=4, **place):
    return finetune_batches(source, RULE, CANVAS, batch_size, seed=3, place=Place(**place))


def crops(source, batch_size=4, **place):
    return pretrain_batches(source, 16, batch_size, seed=3, place=Place(**place))


# ---- batches


def test_each_source_has_its_share_of_every_epoch_and_draws_its_images_equally_often():
    order = order_of(two(40, 20, (1, 3)), 0)
    epochs = np.array([order(position) for position in range(4 * 60)]).reshape(4, 60)
    assert [(epoch < 40).sum() for epoch in epochs] == [15] * 4
    for end in (1, 2, 3, 4):
        times = np.bincount(epochs[:end].ravel(), minlength=60)
        assert np.ptp(times[:40]) <= 1 and np.ptp(times[40:]) <= 1
    assert not np.array_equal(epochs[0], epochs[1])
    # The sources are mixed in the whole epoch, not one after another.
    assert all(3 < (half < 40).sum() < 12 for half in np.split(epochs[0], 2))


def test_a_source_of_little_weight_is_drawn_and_equal_weights_ignore_sizes():
    order = order_of(two(10, 10, (1e9, 1.0)), 0)
    assert sum(order(position) >= 10 for position in range(21)) == 1
    order = order_of(two(30, 10, (1.0, 1.0)), 0)
    assert sum(order(position) >= 30 for position in range(40)) == 20


@pytest.mark.parametrize("stream", [stream, crops], ids=["finetune", "pretrain"])
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_share_the_batches_of_one_and_a_resumed_stream_goes_on(hosts, stream):
    source = two()
    whole = list(itertools.islice(stream(source), 4))
    for start in (0, 3):
        shares = [next(stream(source, start_step=start, process_index=i, process_count=hosts)) for i in range(hosts)]
        for key, expected in whole[start].items():
            np.testing.assert_array_equal(np.concatenate([share[key] for share in shares]), expected, err_msg=key)


def test_a_batch_says_the_source_of_each_example_and_percentiles_are_those_within_it():
    source = two()
    batch = next(stream(source, batch_size=30))
    mos, percentile = (source.column(key).astype(np.float32) for key in ("mos", "percentile"))
    for k in range(30):
        row = np.flatnonzero((mos == batch["mos"][k]) & (percentile == batch["percentile"][k]))
        assert batch["dataset"][k] == (row[0] >= 6)
    np.testing.assert_array_equal(source.column("percentile")[:6], FakeSource(6, size=32).column("percentile"))


# ---- losses


def plcc_oracle(pred, mos, dataset):
    pred, mos = pred.astype(np.float64), mos.astype(np.float64)
    r = [np.corrcoef(pred[dataset == d], mos[dataset == d])[0, 1] for d in dataset]
    return (1 - np.mean(r)) / 2


def test_plcc_within_sources_equals_the_loops():
    dataset = np.array([0, 0, 1, 0, 1, 1, 1, 0, 1], np.int32)
    pred, mos = (RNG.random(9).astype(np.float32) for _ in range(2))
    loss = jax.jit(plcc_loss)
    np.testing.assert_allclose(loss(pred, mos, dataset), plcc_oracle(pred, mos, dataset), rtol=1e-5)
    np.testing.assert_allclose(loss(pred, mos, np.zeros(9, np.int32)), loss(pred, mos), rtol=1e-6)
    # Of an image without another of its source, r counts as 0.
    alone = np.array([0] * 8 + [1], np.int32)
    expected = (8 * plcc_loss(pred[:8], mos[:8]) + 0.5) / 9
    value, gradient = jax.value_and_grad(plcc_loss)(jnp.asarray(pred), mos, alone)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(gradient).all() and gradient[8] == 0


def test_plcc_refuses_sources_of_another_shape():
    with pytest.raises(ValueError, match="dataset must have shape"):
        plcc_loss(jnp.ones(4), jnp.ones(4), jnp.zeros((4, 1), jnp.int32))


BATCH = 10
DATASET = np.array([0, 1, 0, 0, 1, 0, 1, 1, 0, 1], np.int32)


def stage_loss(config):
    """The loss of stage 2 with a model that returns its parameters: the score and the vectors of each image."""

    def look(params, batch, keys):
        out = {key: params["vectors"] for key in ("rs_q", "rs_d", "q_tilde", "d_tilde")}
        return params["mos"], {**out, "mos_aux": params["mos"]}

    term = rs_terms.RSTerm(
        lambda batch, out, look: {**out, **{f"other_{key}": -out[key] for key in ("q_tilde", "d_tilde")}},
        rs_terms.OF_SCORES[config.loss.rs].compare,
    )
    loss = finetune.loss_of(config, look, term)

    def run(params, batch):
        def step(params):
            value, terms = loss(params, batch, 0)
            return value, terms

        return jax.value_and_grad(step, has_aux=True)(params)

    spec = jax.sharding.PartitionSpec()
    mesh = distributed.make_mesh(jax.devices()[:1])
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def loss_config(several, rs="soft_nce"):
    config = default()
    config.loss.update({"mos": 0.0, "aux": 0.0, "plcc": 1.0, "rs": rs, "rs_weight": 1.0})
    if several:
        config.data.sources = {"one": {"weight": 1.0}, "other": {"weight": 1.0}}
    return config


def example():
    params = {"mos": RNG.random(BATCH), "vectors": RNG.standard_normal((BATCH, 6))}
    labels = {"mos": RNG.random(BATCH), "percentile": RNG.random(BATCH)}
    params, labels = ({key: x.astype(np.float32) for key, x in each.items()} for each in (params, labels))
    return params, {**labels, "dataset": DATASET, "index": np.arange(BATCH, dtype=np.int32)}


@pytest.mark.parametrize("rs", ["soft_nce", "ratio"])
def test_no_pair_across_sources_contributes(rs):
    """Whatever the images of one source have as scores, predictions and vectors, the other's gradient stays."""
    run = stage_loss(loss_config(True, rs))
    params, batch = example()
    rows = DATASET == 1
    changed, relabeled = jax.tree.map(np.copy, (params, batch))
    changed["mos"][rows] = 3 * changed["mos"][rows][::-1] + 7
    changed["vectors"][rows] = changed["vectors"][rows][::-1] ** 3
    relabeled["mos"][rows] = 0.2 * relabeled["mos"][rows] ** 2
    relabeled["percentile"][rows] = relabeled["percentile"][rows][::-1]
    (_, terms), gradient = run(params, batch)
    (_, others), other = run(changed, relabeled)
    assert terms["plcc"] != others["plcc"] and terms["rs"] != others["rs"]
    for key in ("mos", "vectors"):
        assert np.abs(gradient[key][~rows]).max() > 1e-4
        np.testing.assert_allclose(gradient[key][~rows], other[key][~rows], rtol=2e-5, atol=1e-7)
        assert np.abs(gradient[key][rows] - other[key][rows]).max() > 1e-4


def test_two_sources_in_a_batch_have_the_mean_of_their_losses():
    params, batch = example()
    (_, terms), _ = stage_loss(loss_config(True))(params, batch)
    alone = []
    for source in (0, 1):
        rows = np.flatnonzero(np.equal(DATASET, source))
        part = jax.tree.map(lambda x: x[rows], (params, batch))  # noqa: B023
        alone.append(stage_loss(loss_config(False))(*part)[0][1])
    for key in ("plcc", "rs"):  # five images each
        np.testing.assert_allclose(terms[key], np.mean([each[key] for each in alone]), rtol=1e-5)


def test_one_source_has_the_loss_of_a_configuration_without_sources_to_the_bit():
    params, batch = example()
    batch["dataset"] = np.zeros(BATCH, np.int32)
    named = loss_config(False)
    named.data.sources = {"one": {}}
    plain, one = (stage_loss(config)(params, batch) for config in (loss_config(False), named))
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(one), strict=True))

    def before(pred, mos):  # `plcc_loss` as it was without sources
        pred, mos = (x - jnp.mean(x) for x in (pred, mos))
        spread = [jnp.sqrt(jnp.maximum(jnp.mean(x * x), 1e-6)) for x in (pred, mos)]
        return (1.0 - jnp.mean(pred * mos) / (spread[0] * spread[1])) / 2.0

    for loss in (plcc_loss, before):
        value = jax.jit(jax.value_and_grad(loss))(params["mos"], batch["mos"])
        first = value if loss is plcc_loss else first  # noqa: F821
    assert all(np.array_equal(x, y) for x, y in zip(first, value, strict=True))


# ---- configuration


def configured(**each):
    config = default()
    config.data.kind, config.data.fake_count = "fake", 20
    config.data.sources = each
    return config


def test_a_source_takes_what_it_does_not_state_from_the_data():
    config = configured(one={"fold": 2}, other={"kind": "folder", "mos_range": [1, 5], "weight": 0.5})
    one, other = data_sets(config).values()
    assert (one.kind, one.name, one.fold, one.weight) == ("fake", "one", 2, 1.0)
    assert (other.kind, other.name, other.fold, other.weight) == ("folder", "other", 0, 0.5)
    assert tuple(other.mos_range) == (1, 5) and "sources" not in other
    assert data_sets(configured()) == {"": configured().data}


def test_sources_are_set_on_the_command_line(tmp_path):
    written = tmp_path / "two.py"
    written.write_text(
        "from driqa_jax.train.config import default\n\n\ndef get_config():\n    config = default()\n"
        "    config.data.sources = {'mine': {'weight': 2.0}}\n    return config\n"
    )
    overrides = ["data.sources.mine.path=a.csv", "data.sources.mine.weight=3", "data.sources.livec.mos_range=[0, 100]"]
    config = read(str(written), overrides)
    hash(config)
    assert config.data.sources.to_dict() == {"mine": {"weight": 3.0, "path": "a.csv"}, "livec": {"mos_range": (0, 100)}}
    for override, said in (
        ("mine.pth=a", "--config.data.sources.mine.pth: no such key; the nearest is --config.data.sources.mine.path"),
        ("mine.threads=4", "no such key"),
        ("mine.weight=much", "expected float"),
        ("mine=3", "no such key"),
    ):
        with pytest.raises(UserError, match=said):
            read(str(written), [f"data.sources.{override}"])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"wieght": 1.0}, "config.data.sources.one: wieght: no such key; the nearest is weight"),
        ({"weight": "much"}, "config.data.sources.one: weight=much: expected float"),
        ({"weight": 0}, "config.data.sources.one.weight must be above 0, got 0"),
        ({"weight": -1.0}, "config.data.sources.one.weight must be above 0, got -1"),
        ("ratings.csv", "config.data.sources.one: expected keys of `data` and a weight"),
        ({"kind": "tfds", "path": "/nowhere"}, "/nowhere/one: no prepared set here; run: driqa data prepare one"),
        ({"kind": "none"}, "unknown kind of source 'none'"),
        ({"train": "fit"}, "no picture in 'fit'"),
    ],
)
def test_what_is_no_source_is_refused_naming_it(changes, said):
    with pytest.raises(UserError, match=said):
        sources(configured(one=changes, other={}))


def test_a_resumed_run_may_have_its_sources_elsewhere_but_no_other_weights():
    before, moved, changed = (
        fixed_on_resume(json.loads(json.dumps(configured(one=keys, other={"fold": 1}).to_dict())))
        for keys in ({"path": "a"}, {"path": "b"}, {"path": "a", "weight": 2.0})
    )
    assert before == moved != changed
    assert {key for key in changed if changed[key] != before.get(key)} == {"data.sources.one.weight"}


def test_a_file_of_weights_names_the_sources_without_their_paths():
    config = configured(one={"path": "/home/me/one.csv"}, other={})
    kept = export._without_paths({"run": config.to_dict()})["run"]["data"]
    assert "/home" not in json.dumps(kept) and list(kept["sources"]) == ["one", "other"]


def test_a_protocol_of_several_sources_is_refused_before_anything_is_opened():
    config = protocol.default({"full": {}})
    config.base.data.sources = {"one": {}, "other": {}}
    with pytest.raises(
        UserError, match="config.rows, 'full': a protocol splits one data set; leave data.sources empty"
    ):
        make_plan(config, DataSets())


def test_images_of_several_sources_are_not_counted_as_seen_before():
    config = configured(one={}, other={})
    config.init = "absent"  # not even loaded
    assert validation_overlap(config, lambda: None, two()) == 0


# ---- data


@pytest.fixture
def rated(tmp_path):
    """Two folders of rated images on different scales; the second has the official splits train and test."""
    for name, count, line in (
        ("stars", 12, lambda i: f"{i}.png,{1 + 4 * i / 11:.3f}"),
        ("dmos", 10, lambda i: f"{i}.png,{100 - 10 * i:.1f},{'test' if i > 7 else 'train'}"),
    ):
        lines = ["image,mos" if name == "stars" else "image,dmos,split"]
        for number in range(count):
            draw(tmp_path / name / f"{number}.png", number + 100 * (name == "dmos"))
            lines.append(line(number))
        (tmp_path / name / "ratings.csv").write_text("\n".join(lines) + "\n")
    config = tiny_config.get_config()
    config.data.kind = "folder"
    config.data.sources = {
        "stars": {"path": str(tmp_path / "stars"), "mos_range": (1, 5), "weight": 2.0},
        "dmos": {"path": str(tmp_path / "dmos"), "mos_range": (100, 0), "train": "train", "val": "test"},
    }
    return config


def test_each_source_has_its_own_scale_split_and_percentiles(rated):
    fit, val = sources(rated)
    assert fit.column("dataset").tolist() == ["dmos"] * 8 + ["stars"] * 11
    assert val.column("dataset").tolist() == ["dmos"] * 2 + ["stars"]
    dmos = fit.column("dataset") == "dmos"
    np.testing.assert_allclose(fit.column("mos")[dmos], np.arange(8) / 10)
    assert fit.column("mos")[~dmos].max() <= 1
    np.testing.assert_allclose(fit.column("percentile")[dmos], (np.arange(8) + 0.5) / 8)
    assert fit.labels_from.count("\n") == 1 and "from 100 (worst) to 0 (best)" in fit.labels_from


def test_errors_name_the_key_of_the_source(rated):
    rated.data.sources.stars.mos_range = ()
    with pytest.raises(UserError, match=r"for example --config.data.sources.stars.mos_range=\"\(1,5\)\""):
        sources(rated)


def test_one_source_is_what_the_same_data_are_without_sources(rated):
    dmos = rated.data.sources.dmos
    alone = rated.copy_and_resolve_references()
    alone.data.sources = {"dmos": dmos}
    plain = rated.copy_and_resolve_references()
    plain.data.sources = {}
    plain.data.update({**dmos, "name": "dmos"})
    (one, _), (other, _) = sources(alone), sources(plain)
    assert type(one) is type(other)
    assert [order_of(one, 1)(p) for p in range(20)] == [order_of(other, 1)(p) for p in range(20)]
    assert all(next(stream(one))[key].tobytes() == x.tobytes() for key, x in next(stream(other)).items())


@pytest.mark.parametrize("held", ["8.png", "9.png"])
def test_an_image_that_another_source_holds_out_is_refused(rated, tmp_path, held):
    """One file name and the same bytes; the folder may differ."""
    shared = (tmp_path / "dmos" / held).read_bytes()
    (tmp_path / "stars" / held).write_bytes(shared)
    with pytest.raises(UserError, match=f"dmos: {held}: is held out, but the same image as 'stars: {held}'"):
        sources(rated)


def test_an_image_that_both_sources_train_on_or_that_only_shares_the_name_is_accepted(rated, tmp_path):
    fit, val = sources(rated)
    ids = fit.column("image_id")[fit.column("dataset") == "stars"].tolist()
    both = next(name for name in ids if name in {f"{i}.png" for i in range(8)})
    (tmp_path / "stars" / both).write_bytes((tmp_path / "dmos" / both).read_bytes())
    assert len(sources(rated)[0]) == len(fit)
    whole = Joined({"a": FakeSource(10, size=16), "b": FakeSource(10, size=16)})
    parts = {name: select(FakeSource(10, size=16), spec) for name, spec in (("a", "train"), ("b", "test"))}
    with pytest.raises(UserError, match=r"a: fake/00008.png: is held out, but the same image as 'b: fake/00008.png'"):
        require_separate_sources(whole, Joined(parts))


# ---- validation and training


def test_validation_is_the_mean_over_the_sources_and_each_of_them():
    source, predicted = two(), RNG.random(10)

    def measure(source, predicted):
        def predict(config, model, mesh):
            return lambda params, source: (predicted, source.column("mos"))

        return agreement(predict, None, None, None)(None, source)

    values = measure(source, predicted)
    for name, rows in (("one", slice(0, 6)), ("other", slice(6, 10))):
        alone = measure(source._rows[rows.start][0], predicted[rows])
        assert set(alone) == {"val_srcc", "val_plcc", "val_mae"}
        assert all(values[f"{key}_{name}"] == value for key, value in alone.items())
    for key in ("val_srcc", "val_plcc", "val_mae"):
        assert values[key] == pytest.approx((values[f"{key}_one"] + values[f"{key}_other"]) / 2)
    # A figure that one source does not define has no mean.
    values = measure(source, np.concatenate([predicted[:6], np.full(4, 0.5)]))
    assert np.isnan(values["val_srcc"]) and np.isfinite(values["val_srcc_one"]) and np.isfinite(values["val_mae"])


@pytest.mark.usefixtures("tiny_variant")
def test_a_training_on_two_csv_files_resumes_and_reports_each(rated, tmp_path, capsys):
    rated.batch_size, rated.steps, rated.eval_every = 8, 3, 3
    rated.init = str(tmp_path / "start.safetensors")
    start = {"config": rated.to_dict(), "examples": 0, "step": 0}
    save_weights(rated.init, random_params(tiny(rated.model)), describe(start))
    assert train(rated, str(tmp_path / "run")) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (last,) = (line for line in lines if "val_mae" in line)
    assert last["val_mae"] == pytest.approx((last["val_mae_stars"] + last["val_mae_dmos"]) / 2, abs=1e-5)
    said = capsys.readouterr().err
    assert "finetune: 19 images, 3 for validation" in said and said.count("on a scale from") == 2
    assert train(rated, str(tmp_path / "run")) == 0  # its configuration is read back
    assert "resumed at step 3" in capsys.readouterr().err
    heavier = rated.copy_and_resolve_references()
    set_key(heavier, "data.sources.dmos.weight", "4")
    with pytest.raises(UserError, match="differs in data.sources.dmos.weight"):
        train(heavier, str(tmp_path / "run"))
