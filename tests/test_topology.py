"""The step of another machine: its collectives are counted from HLO text, of a stored piece and of a real program."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from tiny_model import random_params

from benchmarks import topology
from benchmarks.__main__ import main
from benchmarks.collectives import Traffic, count_collectives
from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.errors import UserError
from driqa_jax.models.driqa import build_model
from driqa_jax.train import initialization, optim
from driqa_jax.train.config import read

# As a TPU's compiler writes: tiled layouts, tuples, operations split in a start and a done, one inside a fusion.
TPU_HLO = """\
HloModule jit_step, is_scheduled=true, num_partitions=16

%fused_computation.7 (param_0: f32[1280,256]) -> f32[80,256] {
  %param_0 = f32[1280,256]{1,0:T(8,128)} parameter(0)
  ROOT %reduce-scatter.3 = f32[80,256]{1,0:T(8,128)} reduce-scatter(%param_0), channel_id=4, dimensions={0}
}

ENTRY %main (p0: f32[8,128]) -> (f32[8,128], f32[]) {
  %all-gather-start.1 = (bf16[1,128]{1,0:T(2,128)(2,1)}, bf16[16,128]{1,0:T(8,128)(2,1)S(1)}) all-gather-start(%x)
  %all-gather-done.1 = bf16[16,128]{1,0:T(8,128)(2,1)S(1)} all-gather-done(%all-gather-start.1)
  %all-reduce.2 = (f32[8,128]{1,0:T(8,128)}, /*index=1*/f32[]{:T(128)}) all-reduce(%a, %b), metadata={op_name="a"}
  %fusion.7 = f32[80,256]{1,0:T(8,128)} fusion(%all-reduce.9), kind=kCustom, calls=%fused_computation.7
  %collective-permute-start.1 = (s32[4]{0}, s32[4]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%i)
  %collective-permute-done.1 = s32[4]{0:T(128)} collective-permute-done(%collective-permute-start.1)
  %all-reduce.4 = pred[3]{0} all-reduce(%c), channel_id=5, to_apply=%or, metadata={op_name="all-to-all(in a name)"}
}
"""


def test_collectives_of_a_tpu_program_are_counted_once_with_the_bytes_of_their_results():
    assert count_collectives(TPU_HLO) == {
        "all-reduce": Traffic(2, 8 * 128 * 4 + 4 + 3),
        "all-gather": Traffic(1, 16 * 128 * 2),
        "reduce-scatter": Traffic(1, 80 * 256 * 4),
        "collective-permute": Traffic(1, 16),
    }
    assert count_collectives("ENTRY %main { ROOT %add.1 = f32[8] add(%a, %b) }") == {}


def test_collectives_of_a_compiled_program_are_those_it_was_written_with():
    def step(x):
        gathered = distributed.gather(x)  # 64 x 4 f32 on each device
        turned = jax.lax.all_to_all(x, distributed.AXIS, 0, 0, tiled=True)
        passed = jax.lax.ppermute(x, distributed.AXIS, [(i, (i + 1) % 8) for i in range(8)])
        return distributed.total(gathered.sum(axis=0) + turned.sum(axis=0) + passed.sum(axis=0))

    split = jax.sharding.PartitionSpec(distributed.AXIS)
    mapped = jax.shard_map(
        step, mesh=distributed.make_mesh(), in_specs=split, out_specs=jax.sharding.PartitionSpec(), check_vma=False
    )
    found = count_collectives(jax.jit(mapped).lower(jnp.zeros((64, 4))).compile().as_text())
    assert found == {
        "all-reduce": Traffic(1, 4 * 4),
        "all-gather": Traffic(1, 64 * 4 * 4),
        "collective-permute": Traffic(1, 8 * 4 * 4),
        "all-to-all": Traffic(1, 8 * 4 * 4),
    }


@pytest.fixture
def tiny_config(tiny_variant):
    return small(["model.variant=tiny"])


def small(overrides):
    sizes = ["view.canvas=(64, 64)", "view.short=64", "view.tile=64", "batch_size=16", "loss.rs_weight=0.3"]
    return initialization.with_model(read(None, [*sizes, *overrides]))


@pytest.mark.long
def test_the_step_is_described_as_training_runs_it(tiny_config):
    """On fake devices, where what the abstract shapes stand for can be built and be run."""
    config, devices = tiny_config, jax.devices()
    compiled = topology.compile_step(config, devices)
    found = topology.describe(compiled)

    mesh, model = distributed.make_mesh(devices), build_model(config.model)
    optimizer = optim.make_optimizer(config.optim, topology.STEPS)
    run = manager.create(random_params(model), lambda path: not optim.matches(path, config.optim.frozen), optimizer)
    trained = sum(leaf.nbytes for leaf in run.trainable.values())
    held = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(run))
    shapes = topology.abstract_batch(config, mesh)
    draw = np.random.default_rng(0)
    batch = {name: draw.random(leaf.shape).astype(leaf.dtype) for name, leaf in shapes.items()}
    batch["valid"] = np.full_like(batch["valid"], 64)
    after, metrics = compiled(distributed.replicate(run, mesh), distributed.place_batch(batch, mesh))
    assert int(after.step) == 1 and np.isfinite(float(metrics["loss"]))

    split = sum(array.nbytes for array in batch.values()) / len(devices)
    assert found["arguments_mib"] == pytest.approx((held + split) / 2**20, rel=0.01)
    assert found["temporary_mib"] > 0 and found["gflop"] > 0
    # Every gradient is summed over the devices, once.
    assert found["collectives"]["all-reduce"]["mib"] == pytest.approx(trained / 2**20, rel=0.02)
    assert found["collectives"]["all-gather"]["count"] >= 3


def test_the_batch_of_a_pretraining_is_that_of_its_stream():
    config = small(["stage=pretrain", "pretrain.block=2", "pretrain.crop=32"])
    shapes = topology.abstract_batch(config, distributed.make_mesh())
    assert {name: (leaf.shape, str(leaf.dtype)) for name, leaf in shapes.items()} == {
        "photo": ((16, 32, 32, 3), "uint8"),
        "index": ((16,), "int32"),
    }


def test_without_libtpu_the_command_says_what_to_install(monkeypatch, capsys):
    def absent(*unused, **also):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(topology.topologies, "get_topology_desc", absent)
    assert main(["topology", "v5e:4x4"]) == 2
    assert "pip install 'driqa_jax[tpu]'" in capsys.readouterr().err


def test_a_step_that_does_not_fit_is_told(tiny_config, monkeypatch):
    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\nmore")

    class Mapped:
        def lower(self, *unused):
            return Lowered()

    monkeypatch.setattr(distributed, "map_step", lambda *unused: Mapped())
    for shapes in ("abstract_state", "abstract_batch"):
        monkeypatch.setattr(topology, shapes, lambda *unused: None)
    with pytest.raises(UserError, match="tiny at 2 images per device does not fit; use a smaller --batch"):
        topology.compile_step(tiny_config, jax.devices())


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="wants the extra tpu")
def test_the_step_compiles_for_a_tpu(tiny_config):
    found = topology.measure("v5e:2x4", ml_collections.ConfigDict(tiny_config.to_dict()), per_device=2)
    assert found["devices"] == 8 and re.search("v5", found["device"])
    assert found["collectives"]["all-reduce"]["mib"] > 0 and found["temporary_mib"] > 0
