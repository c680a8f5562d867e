"""The step is the same on 1 and on 8 devices: loss, metrics and gradients, first step, both stages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec
from tiny_model import random_params, tiny, views_of_noise

from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models import driqa
from driqa_jax.train import optim
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune, pretrain
from driqa_jax.train.step import NONFINITE, make_step

BATCH, SIDE = 8, 64
RELATIVE = 1e-5


def configured(stage, variant, block):
    """Every loss of the stage counts."""
    config = default()
    config.model.types = NAMES
    config.stage, config.model.variant = stage, variant
    config.loss.plcc, config.loss.rs_weight, config.loss.aux = 0.5, 0.3, 0.2
    if stage == "pretrain":
        config.optim.frozen = ()
        config.pretrain.block, config.pretrain.restored = block, 0.5 if block else 1.0
        config.pretrain.crop, config.pretrain.chains = SIDE, 3
        # Between two of 256 levels the last bit of a compilation decides, and a loss sees the whole level.
        with config.unlocked():
            config.pretrain.recipe.eight_bit = False
            # What is not drawn is not compiled.
            config.pretrain.recipe.names = ("motion_blur", "white_noise", "haze", "brighten")
    return config


def batch_of(stage, block):
    rng = np.random.default_rng(0)
    count = BATCH * (block or 1)
    index = np.arange(16, 16 + count, dtype=np.int32)
    if stage == "pretrain":
        return {"photo": rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8), "index": index}
    whole, valid, tiles, boxes = views_of_noise(BATCH, 1, (SIDE, SIDE), SIDE)
    valid[::2, 1] = 32
    mos = rng.random(BATCH).astype(np.float32)
    return {
        "whole": (whole * 255).astype(np.uint8),
        "valid": valid,
        "tiles": (tiles * 255).astype(np.uint8),
        "tile_boxes": boxes,
        "mos": mos,
        "percentile": mos,
        "dataset": np.array([0] * 5 + [1] * 3, np.int32),
        "index": index,
    }


def first_step(stage, variant, block, devices, executor="shard_map"):
    """Gradients by path, and metrics, of the loop's own step; its optimizer here keeps the gradients."""
    config = configured(stage, variant, block)
    model = driqa.build_model(config.model)
    params = random_params(model)
    if stage == "pretrain":
        params = {name: params[name] for name in ("degradation_encoder", "restoration")}
    mesh = distributed.make_mesh(jax.devices()[:devices])
    keeper = optax.trace(0.0)
    start = manager.create(params, lambda path: not optim.matches(path, config.optim.frozen), keeper)
    loss = {"finetune": finetune, "pretrain": pretrain}[stage].make_loss(config, model)
    step = distributed.map_step(make_step(loss, keeper, 0.9), mesh, executor)
    after, metrics = step(distributed.replicate(start, mesh), distributed.place_batch(batch_of(stage, block), mesh))
    assert int(metrics.pop(NONFINITE)) == 0
    return jax.tree.map(np.asarray, (after.opt_state.trace, metrics))


@pytest.mark.long
@pytest.mark.parametrize(
    "stage, variant, block",
    [
        ("finetune", "tiny", 0),
        ("pretrain", "tiny", 0),
        ("pretrain", "tiny", 2),
        ("finetune", "lite", 0),
        ("pretrain", "lite", 0),
    ],
)
def test_one_and_eight_devices_have_the_same_loss_and_gradients(stage, variant, block, monkeypatch):
    monkeypatch.setitem(driqa.VARIANTS, "tiny", tiny)
    require_equal(*(first_step(stage, variant, block, devices) for devices in (1, 8)))


def require_equal(first, second):
    """Two results of `first_step`, to `RELATIVE`."""
    (one, one_metrics), (eight, eight_metrics) = first, second
    assert one_metrics.keys() == eight_metrics.keys()
    for name, value in one_metrics.items():
        assert value != 0 and abs(eight_metrics[name] / value - 1) < RELATIVE, (
            name,
            value,
            eight_metrics[name],
        )

    norms = {path: np.linalg.norm(gradient) for path, gradient in one.items()}
    total = np.sqrt(sum(norm**2 for norm in norms.values()))
    apart = {path: np.linalg.norm(eight[path] - gradient) for path, gradient in one.items()}
    assert np.isfinite(total) and total > 0
    assert np.sqrt(sum(norm**2 for norm in apart.values())) < RELATIVE * total
    # A key's bias moves every logit of a softmax alike: its gradient is rounding alone, without digits.
    seen = {path: norm for path, norm in norms.items() if not path.endswith("/key/bias")}
    assert min(seen.values()) > 1e-6 * total, min(seen, key=seen.get)
    worst = max(seen, key=lambda path: apart[path] / norms[path])
    assert apart[worst] < 1e-3 * norms[worst], worst


EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(distributed.AXIS)


def mapped(function, devices=8, out=EVERYWHERE):
    """`function` of one array split over devices, its result replicated or split."""
    mesh = distributed.make_mesh(jax.devices()[:devices])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=SPLIT, out_specs=out, check_vma=False))


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_gather_keeps_the_order_of_the_global_batch_and_local_slice_undoes_it(devices):
    x = np.arange(48.0).reshape(16, 3)
    np.testing.assert_array_equal(mapped(distributed.gather, devices)(x), x)
    again = mapped(lambda piece: distributed.local_slice(distributed.gather(piece)), devices, SPLIT)
    np.testing.assert_array_equal(again(x), x)


def test_the_gradient_of_a_shared_loss_of_gathered_values_is_not_multiplied_by_the_devices():
    x, target = np.arange(16.0, dtype=np.float32), np.ones(16, np.float32)

    def loss(weight, piece):
        return distributed.share(jnp.sum((distributed.gather(weight * piece) - target) ** 2))

    def summed(piece):
        return distributed.total(jax.value_and_grad(loss)(jnp.float32(2.0), piece))

    value, gradient = mapped(summed)(x)
    np.testing.assert_allclose(value, np.sum((2 * x - target) ** 2), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.sum(2 * (2 * x - target) * x), rtol=1e-6)


def test_a_block_that_lies_on_two_devices_is_refused(monkeypatch):
    monkeypatch.setitem(driqa.VARIANTS, "tiny", tiny)
    config = configured("pretrain", "tiny", 2)
    with pytest.raises(UserError, match="config.pretrain.block=2 does not divide the 3 photos of a device"):
        pretrain.degrade(config, jnp.zeros((3, SIDE, SIDE, 3)), jnp.arange(3), 0)


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    place = functools.partial(distributed.place_batch, mesh=distributed.make_mesh())
    with pytest.raises(ValueError, match=r"a batch of 12 cannot be split over 8 devices; set config\.batch_size"):
        place({"mos": np.zeros(12, np.float32)})
    placed = place({"mos": np.arange(16.0, dtype=np.float32)})["mos"]
    assert len(placed.sharding.device_set) == 8 and placed.addressable_shards[3].data.tolist() == [6.0, 7.0]
    np.testing.assert_array_equal(distributed.to_host(placed), np.arange(16.0))
