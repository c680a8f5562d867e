"""`python -m benchmarks train`: every figure it defines is there, and means what it says."""

import contextlib
import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import pytest
from test_train import configured
from tiny_model import random_params, tiny

from benchmarks import stage2, topology, train
from benchmarks.timed_loop import time_loop
from driqa_jax import distributed
from driqa_jax.errors import UserError
from driqa_jax.models.ops import depthwise_conv
from driqa_jax.models.summary import multiply_adds

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture(scope="module")
def params():
    return random_params(tiny(configured().model))


@pytest.mark.long
def test_every_figure_is_there_and_its_parts_agree(monkeypatch, params, tmp_path, capsys):
    monkeypatch.setattr(train, "read", lambda path, overrides: configured())
    monkeypatch.setattr(train, "fresh_params", lambda config: params)
    # Tests keep their programs; that the bench's folder begins empty is tested below.
    monkeypatch.setattr(train, "empty_cache", contextlib.nullcontext)
    file = tmp_path / "found.json"
    assert train.main(["--steps", "3", "--peak-tflops", "0.5", "--json", str(file)]) == 0
    found, said = json.loads(file.read_text()), capsys.readouterr().out
    step = found["step"]
    assert 0 < step["step_median_ms"] <= step["step_p95_ms"]
    assert step["images_per_second"] == pytest.approx(8e3 / step["step_median_ms"])
    assert step["images_per_second_per_device"] == pytest.approx(step["images_per_second"] / jax.device_count())
    assert step["utilization"] == pytest.approx(
        step["model_gflops_per_device"] / step["step_median_ms"] / step["peak_tflops_per_device"]
    )
    assert step["peak_tflops_per_device"] == 0.5 and step["peak_is"] == "given"
    for name in ("loop_synthetic", "loop_both"):
        run = found[name]
        assert run["over_bare"] == pytest.approx(run["step_ms"] / run["bare_step_ms"] - 1) and 0 <= run["waiting"] <= 1
    assert found["checkpoint"]["share"] == pytest.approx(found["checkpoint"]["held_ms"] / 600e3) and said.count("%") > 4
    assert found["loader"]["times_the_step"] > 0 and found["process_peak_mib"] > 100


@pytest.mark.long
def test_the_loop_waits_for_slow_data_and_not_for_data_that_is_there(params):
    config = configured(**{"data.fake_count": 16})
    batch = stage2.synthetic_batch(config)

    def slow():
        while True:
            time.sleep(0.5)
            yield batch

    waited = time_loop(config, params, slow(), 2)
    assert 0.5 <= waited.waiting <= 2 * waited.step and waited.step > 0.25 and waited.saves == []
    there = time_loop(config, params, itertools.repeat(batch), 4, save_every=2)
    assert there.waiting < 0.02 and len(there.saves) == 2 and min(there.saves) > 0


def test_flops_of_a_step_count_what_is_trained_and_no_recomputation(params):
    config, mesh = configured(), distributed.make_mesh()
    batch = stage2.synthetic_batch(config)
    base = train.model_flops(config, params, mesh, batch)
    again = configured(remat=True, **{"optim.frozen": ()})
    assert train.model_flops(configured(remat=True), params, mesh, batch) == base
    assert train.model_flops(again, params, mesh, batch) > 1.3 * base


def test_multiply_adds_of_a_gradient_are_three_products():
    x, w = jnp.ones((4, 8)), jnp.ones((8, 3))
    both = jax.value_and_grad(lambda x, w: jnp.square(x @ w).sum(), (0, 1))
    assert multiply_adds(both, x, w) == 3 * 4 * 8 * 3
    image, taps = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2))
    filtered = jax.value_and_grad(lambda x: jnp.square(depthwise_conv(x, taps)).sum())
    assert multiply_adds(filtered, image) == image.size * 9, "the way back of a depthwise convolution is left out"


def test_programs_are_kept_in_a_folder_that_begins_empty_and_goes():
    before = jax.config.jax_compilation_cache_dir
    with train.empty_cache():
        folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
        assert list(folder.iterdir()) == []
        jax.jit(lambda x: x * 3 + 1)(jnp.ones(3)).block_until_ready()
        assert list(folder.iterdir())
    assert jax.config.jax_compilation_cache_dir == before and not folder.exists()


def test_a_topology_goes_to_the_bench_of_topologies(monkeypatch):
    given = []
    monkeypatch.setattr(topology, "main", lambda argv: given.append(argv) or 0)
    assert train.main(["--config", "F.py", "--topology", "v5e:4x4", "--batch", "4", "--config.remat=True"]) == 0
    assert given == [["v5e:4x4", "--config", "F.py", "--batch", "4", "--config.remat=True"]]


def test_what_cannot_be_measured_is_refused(monkeypatch):
    monkeypatch.setattr(train, "read", lambda path, overrides: configured("pretrain"))
    with pytest.raises(UserError, match="needs config.stage=finetune, got 'pretrain'"):
        train.main([])
    monkeypatch.setattr(train, "read", lambda path, overrides: configured())
    with pytest.raises(UserError, match="--devices 16: this machine has 8"):
        train.main(["--devices", "16"])
