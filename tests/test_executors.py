"""The executors do the same; the loop keeps the devices busy, and sends them the batch and nothing else."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_parallel import first_step, require_equal
from test_train import STEPS, configured
from tiny_model import random_params, tiny

from driqa_jax import distributed
from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.errors import UserError
from driqa_jax.train import loop

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A weights file of the tiny model."""
    path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
    config = configured()
    described = describe({"config": config.to_dict(), "examples": 0, "step": 0})
    save_weights(path, random_params(tiny(config.model)), described)
    return path


@pytest.mark.long
@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_pmap_has_the_loss_and_gradients_of_shard_map(stage):
    require_equal(*(first_step(stage, "tiny", 0, 8, executor) for executor in distributed.EXECUTORS))


@pytest.mark.parametrize("executor", distributed.EXECUTORS)
def test_the_state_is_given_away_and_comes_back_on_every_device(executor):
    mesh = distributed.make_mesh()

    def step(state, batch):
        return {"w": state["w"] + distributed.total(batch["x"].sum())}, {"seen": distributed.total(jnp.float32(1.0))}

    advance = distributed.map_step(step, mesh, executor)
    first = distributed.replicate({"w": np.zeros((4, 4), np.float32)}, mesh)
    batch = distributed.place_batch({"x": np.arange(16, dtype=np.float32)}, mesh)
    second, metrics = advance(first, batch)
    assert first["w"].is_deleted() and not batch["x"].is_deleted()
    assert second["w"].sharding.is_equivalent_to(distributed.everywhere(mesh), 2)
    third, _ = advance(second, batch)
    assert second["w"].is_deleted() and metrics["seen"] == 8.0
    np.testing.assert_array_equal(third["w"], np.full((4, 4), 240.0))


@pytest.mark.parametrize("executor", ["shard_map", pytest.param("pmap", marks=pytest.mark.long)])
def test_the_loop_sends_batches_alone_and_waits_for_no_metric(executor, start, tmp_path, monkeypatch):
    sent, read = [], []

    class Metric:
        """A step's value, which writes down when it is read, by a transfer that is asked for."""

        def __init__(self, step, value):
            self._step, self._value = step, value

        def __float__(self):
            read.append((self._step, len(sent)))
            return float(jax.device_get(self._value))

        def __int__(self):
            return int(float(self))

    def map_step(*args):
        advance = distributed.map_step(*args)

        def watched(run, batch):
            run, metrics = advance(run, batch)
            sent.append(len(sent) + 1)
            return run, {name: Metric(sent[-1], value) for name, value in metrics.items()}

        return watched

    def guard(level):
        jax.config.update("jax_transfer_guard_host_to_device", level)
        if jax.default_backend() != "cpu":  # whose arrays are the host's as well
            jax.config.update("jax_transfer_guard_device_to_host", level)

    stage, add = loop.STAGES["finetune"], jax.jit(lambda x: x + 1)

    def batches(*args):
        for number, batch in enumerate(stage.batches(*args)):
            if number == 1:
                guard("disallow")
                with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
                    add(np.ones(3))
            if number == STEPS - 1:
                guard("allow")
            yield batch

    monkeypatch.setattr(loop, "distributed", SimpleNamespace(**{**vars(distributed), "map_step": map_step}))
    monkeypatch.setitem(loop.STAGES, "finetune", stage._replace(batches=batches))
    try:
        assert loop.train(configured(init=str(start), eval_every=0, parallel=executor), tmp_path) == 0
    finally:
        guard("allow")
    assert sent == list(range(1, STEPS + 1))
    assert {step for step, _ in read} == set(sent)
    assert all(at > step for step, at in read if step < STEPS), read


def test_an_executor_that_there_is_not_is_refused(start, tmp_path):
    with pytest.raises(UserError, match=r"config\.parallel must be one of shard_map, pmap, got 'threads'"):
        loop.train(configured(init=str(start), parallel="threads"), tmp_path)


def test_the_mesh_keeps_the_devices_of_a_host_together(monkeypatch):
    wires = [SimpleNamespace(process_index=host, id=number) for host, number in ((0, 0), (1, 2), (1, 3), (0, 1))]
    monkeypatch.setattr(distributed, "Mesh", lambda found, *args, **kwargs: found)
    assert [device.id for device in distributed.make_mesh(wires)] == [0, 1, 2, 3]
