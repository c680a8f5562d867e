"""What a step can be told: to compute in bfloat16, in parts, again in place of remembering; and when it refuses."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_parallel import SIDE, batch_of
from test_parallel import configured as configured_step
from test_train import configured, lines
from tiny_model import random_params, tiny, views_of_noise

from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.checkpoints.manager import Checkpoints
from driqa_jax.errors import UserError
from driqa_jax.models import driqa, precision
from driqa_jax.train import loop, optim
from driqa_jax.train.stages import finetune, pretrain
from driqa_jax.train.step import NONFINITE, NORM, make_step, nonfinite_code, nonfinite_name, squared_norms
from driqa_jax.train.telemetry import MetricLog, Profile

pytestmark = pytest.mark.usefixtures("tiny_variant")
COMPILED = "/jax/core/compile/backend_compile_duration"


def begin(config, optimizer, devices=1):
    """A state on some devices, and the mesh."""
    params = random_params(driqa.build_model(config.model))
    if config.stage == "pretrain":
        params = {name: params[name] for name in ("degradation_encoder", "restoration")}
    mesh = distributed.make_mesh(jax.devices()[:devices])
    run = manager.create(params, lambda path: not optim.matches(path, config.optim.frozen), optimizer)
    return distributed.replicate(run, mesh), mesh


def gradients(config, devices=1, block=0, remat=False, **options):
    """Gradients by path and metrics of a first step; its optimizer keeps the gradients."""
    keeper = optax.trace(0.0)
    run, mesh = begin(config, keeper, devices)
    loss = {"finetune": finetune, "pretrain": pretrain}[config.stage].make_loss(
        config, driqa.build_model(config.model, remat)
    )
    step = distributed.map_step(make_step(loss, keeper, 0.9, **options), mesh)
    after, metrics = step(run, distributed.place_batch(batch_of(config.stage, block), mesh))
    return jax.tree.map(np.asarray, (after.opt_state.trace, metrics))


def norm(tree):
    return np.sqrt(sum(np.linalg.norm(leaf.astype(np.float64)) ** 2 for leaf in tree.values()))


def apart(one, other):
    """Distance of two gradients, relative to the first."""
    return norm({path: one[path] - other[path] for path in one}) / norm(one)


@pytest.fixture(scope="module")
def whole():
    """Gradients and metrics of the stage 2 step in float32, the whole batch at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(driqa.VARIANTS, "tiny", tiny)
        return gradients(configured_step("finetune", "tiny", 0))


def require_same(one, other):
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_allclose(other[1][name], value, rtol=1e-5, err_msg=name)
    assert norm(one[0]) > 0 and apart(one[0], other[0]) < 1e-5


@pytest.mark.long
def test_parts_of_a_batch_have_the_value_and_gradients_of_the_whole(whole):
    """Correlation, RS and L1 on two devices, four parts each of one picture."""
    assert all(whole[1][name] != 0 for name in ("mos", "plcc", "rs", "aux"))
    require_same(whole, gradients(configured_step("finetune", "tiny", 0), devices=2, accumulate=4))


@pytest.mark.long
def test_parts_of_a_pretraining_batch_have_the_value_and_gradients_of_the_whole():
    """Contrast, naming and severity, restoration, and the RS loss whose judge looks at what is restored."""
    config = configured_step("pretrain", "tiny", 2)
    config.loss.rs = "restored"
    config.model.statistics = False  # logarithms of small numbers among them enlarge the last bit tenfold
    require_same(gradients(config, block=2), gradients(config, block=2, accumulate=2))


def test_a_batch_that_cannot_be_read_in_parts_is_refused():
    with pytest.raises(UserError, match="accumulate=2: with config.pretrain.block=0 all photos share their chains"):
        gradients(configured_step("pretrain", "tiny", 0), accumulate=2)
    with pytest.raises(UserError, match=r"accumulate=3 does not divide the 8 examples .* devices \* accumulate"):
        gradients(configured_step("finetune", "tiny", 0), accumulate=3)
    shuffled = configured_step("finetune", "tiny", 0)
    shuffled.model.degradation = "shuffled"
    with pytest.raises(UserError, match="accumulate=2: with config.model.degradation='shuffled'"):
        gradients(shuffled, accumulate=2)
    with pytest.raises(UserError, match="accumulate=16 does not divide the 16 examples .* groups of 2"):
        gradients(configured_step("pretrain", "tiny", 2), block=2, accumulate=16)


@pytest.mark.long
def test_bfloat16_computes_near_float32_and_keeps_parameters_and_losses_wide(whole):
    grads, metrics = gradients(configured_step("finetune", "tiny", 0), compute="bfloat16")
    assert {leaf.dtype for leaf in (*grads.values(), *metrics.values())} == {np.dtype("f4"), np.dtype("i4")}
    assert 1e-5 < apart(whole[0], grads) < 0.1
    for name in ("mos", "plcc", "rs", "aux"):
        assert abs(metrics[name] / whole[1][name] - 1) < 0.02, name


def test_in_bfloat16_every_product_is_bfloat16_but_those_that_are_kept_wide():
    config = configured_step("finetune", "tiny", 0)
    config.model.statistics = False  # they are of the signal, and wide in all their parts
    model = driqa.build_model(config.model)
    flat = precision.cast(manager.flatten(random_params(model)), "bfloat16")
    views = views_of_noise(2, 1, (SIDE, SIDE), SIDE)
    jaxpr = jax.make_jaxpr(lambda flat: model.apply({"params": manager.unflatten(flat)}, *views)[0])(flat)
    assert jaxpr.out_avals[0].dtype == jnp.float32
    wide = [each for each in products(jaxpr.jaxpr) if any(x.aval.dtype == jnp.float32 for x in each.invars)]
    assert len(list(products(jaxpr.jaxpr))) > 30
    # The read-outs of the auxiliary score and of the patches' scores and weights.
    assert len(wide) == 3 and all(each.outvars[0].aval.shape[-1] == 1 for each in wide)


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def test_float32_parameters_are_not_touched_and_another_compute_is_refused():
    flat = {"a/kernel": np.ones(3, np.float32)}
    assert jax.make_jaxpr(lambda x: precision.cast(x, "float32"))(flat).eqns == []
    with pytest.raises(ValueError, match="compute must be one of float32, bfloat16, got 'half'"):
        precision.cast(flat, "half")


@pytest.mark.parametrize("key, value, said", [("compute", "half", "one of float32"), ("accumulate", 0, "at least 1")])
def test_an_invalid_step_setting_is_refused_before_anything_is_written(key, value, said, tmp_path):
    with pytest.raises(UserError, match=rf"config\.{key} must be {said}.*got .?{value}"):
        loop.train(configured(**{key: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_blocks_computed_again_give_the_same_gradients_and_keep_less(whole):
    config = configured_step("finetune", "tiny", 0)
    require_same(whole, gradients(config, remat=True))
    views = views_of_noise(2, 1, (SIDE, SIDE), SIDE)

    def kept(remat):
        """Bytes that lie between the way there and the way back."""
        model = driqa.build_model(config.model, remat)
        back = jax.eval_shape(
            lambda params: jax.vjp(lambda x: model.apply({"params": x}, *views)[0], params)[1], random_params(model)
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(back))

    assert kept(True) < 0.6 * kept(False)


# ---- numbers that are not finite


def poisoned(batch):
    return {**batch, "mos": np.full_like(batch["mos"], np.nan)}


def test_a_step_that_is_not_finite_leaves_the_state_as_it_was_and_so_do_all_after_it():
    config = configured_step("finetune", "tiny", 0)
    optimizer = optim.make_optimizer(config.optim, 10)
    run, mesh = begin(config, optimizer)
    loss = finetune.make_loss(config, driqa.build_model(config.model))
    advance = distributed.map_step(make_step(loss, optimizer, 0.9), mesh)

    def step(run, batch):
        return advance(distributed.replicate(jax.tree.map(np.array, run), mesh), batch)  # of a copy: it is given away

    good, bad = (
        distributed.place_batch(batch, mesh) for batch in (batch_of("finetune", 0), poisoned(batch_of("finetune", 0)))
    )
    first, metrics = step(run, good)
    assert int(first.nonfinite_code) == 0 and int(first.step) == 1 and int(metrics[NONFINITE]) == 0
    second, metrics = step(first, bad)
    assert nonfinite_name(int(second.nonfinite_code), metrics, second.trainable) == "the loss term 'aux'"
    third, _ = step(second, good)
    for name, before, after in zip(first._fields, first, third, strict=True):
        if name != "nonfinite_code":
            jax.tree.map(np.testing.assert_array_equal, before, after)
    assert int(third.nonfinite_code) == int(second.nonfinite_code) > 0 and np.isfinite(norm(third.trainable))


def test_a_gradient_that_is_not_finite_is_named():
    grads = {"b/kernel": jnp.ones(2), "a/bias": jnp.array([1.0, jnp.inf]), "c": jnp.full(1, jnp.nan)}
    number = int(nonfinite_code(jnp.int32(0), {"loss": jnp.float32(1), "rs": jnp.float32(0)}, squared_norms(grads)))
    said = nonfinite_name(number, ["rs", "loss", NORM, NONFINITE], grads)
    assert said == "the gradient of a/bias"
    assert int(nonfinite_code(jnp.int32(2), {"loss": jnp.float32(1)}, squared_norms(grads))) == 2


def patched_stage(patch, change):
    """The loop starts from random parameters, and its batches go through `change(number, batch)`."""
    stage, params = loop.STAGES["finetune"], random_params(driqa.build_model(configured().model))

    def batches(*args):
        start = args[2]
        for number, batch in enumerate(stage.batches(*args), start):
            yield change(number, batch)

    patch.setitem(loop.STAGES, "finetune", stage._replace(batches=batches, params=lambda *unused: params))


@pytest.mark.long
def test_a_run_that_is_not_finite_stops_with_the_last_good_state_and_goes_on_from_it(tmp_path, monkeypatch, capsys):
    config = configured(log_every=2, eval_every=0, steps=6)
    bad = {2}
    patched_stage(monkeypatch, lambda number, batch: poisoned(batch) if number in bad else batch)
    assert loop.train(config, tmp_path) == 1
    said = capsys.readouterr().err
    assert "step 3: the loss term 'aux' is not finite; the state before it is saved" in said
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 2 and checkpoints.run()["examples"] == 16
    checkpoints.close()
    bad.clear()
    assert loop.train(config, tmp_path) == 0
    assert "resumed at step 2" in capsys.readouterr().err
    trained = [line for line in lines(tmp_path) if "loss" in line]
    assert [line["step"] for line in trained] == [2, 4, 6] and all(line["loss"] is not None for line in trained)


# ---- the loop


@pytest.mark.long
def test_nothing_is_compiled_after_the_first_step_and_traced_steps_are_on_disk(tmp_path, monkeypatch):
    compiled, at = [], {}
    listen = lambda event, duration, **unused: compiled.append(event) if event == COMPILED else None  # noqa: E731
    patched_stage(monkeypatch, lambda number, batch: (batch, at.setdefault(number, len(compiled)))[0])
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        config = configured(log_every=1, eval_every=0, steps=6, profile=(2, 2), **{"checkpoint.steps": 3})
        assert loop.train(config, tmp_path) == 0
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    # The second batch is asked for once the first step is done; the checkpoint library's own slices are compiled at
    # the first save, before the fourth.
    assert at[1] > at[0] and at[2] == at[1] and at[3] == at[4] == at[5]
    traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


@pytest.mark.parametrize("span", [(1,), (1, 0), (-1, 2), (0.5, 1)])
def test_a_span_that_cannot_be_traced_is_refused(span, tmp_path):
    with pytest.raises(UserError, match=r"config\.profile must be \(first step, number of steps\)"):
        Profile(tmp_path, span)


def test_metrics_go_to_tensorboard_too_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    from tensorboardX.proto.event_pb2 import Event

    log = MetricLog(tmp_path, 0)
    log.write(3, {"loss": 0.25, "rs": float("nan")})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, seen = file.read_bytes(), {}
    while data:
        length = int.from_bytes(data[:8], "little")
        event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
        seen.update({(event.step, value.tag): value.simple_value for value in event.summary.value})
    assert seen == {(3, "loss"): 0.25}
    assert json.loads(pathlib.Path(tmp_path / "metrics.jsonl").read_text())["loss"] == 0.25
