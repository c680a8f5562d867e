"""The RS loss of each stage: the same value and gradient on any number of devices, and a word where it cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from driqa_jax import distributed, losses
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UserError
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.config import default
from driqa_jax.train.stages import finetune, pretrain
from driqa_jax.train.step import value_and_grad

BATCH = 8
RNG = np.random.default_rng(3)
BATCHED = {
    "whole": RNG.integers(0, 256, (BATCH, 32, 64, 3), dtype=np.uint8),
    "valid": np.array([[32, 64], [32, 32]] * 4, np.int32),
    "tiles": RNG.integers(0, 256, (BATCH, 1, 8, 8, 3), dtype=np.uint8),
    "tile_boxes": RNG.random((BATCH, 1, 4)).astype(np.float32),
    "percentile": RNG.random(BATCH).astype(np.float32),
    "dataset": np.array([0] * 5 + [1] * 3, np.int32),
}


def look(weight, batch):
    """A model of one product: what a corner of the picture and of the tile shows."""
    q, d = (batch[key].reshape(batch[key].shape[0], -1)[:, :48] / 255.0 @ weight for key in ("whole", "tiles"))
    return {"q_tilde": q, "d_tilde": d, "rs_q": q, "rs_d": d}


def of_stage_two(name):
    def loss(weight, batch):
        term, labels = rs_terms.OF_SCORES[name], (distributed.gather(batch[key]) for key in ("percentile", "dataset"))
        seen = term.read(batch, look(weight, batch), lambda other: look(weight, other))
        seen = {key: distributed.gather(value) for key, value in seen.items()}
        return distributed.share(term.compare(default().loss, seen, *labels))

    return loss


class Judge:
    """In place of the model: `E_d` as a product."""

    @staticmethod
    def apply(variables, pictures, method):
        class Seen:
            vector = pictures.reshape(pictures.shape[0], -1)[:, :48] @ variables["params"]["degradation_encoder"]

        assert method == "encode_degradation"
        return Seen


def of_stage_one(weight, batch):
    pictures, params = batch["tiles"] / 255.0, {"degradation_encoder": jnp.eye(48, 6) + 1}
    restored = jnp.tanh(pictures * weight.sum())  # not its multiple: a vector's length does not count
    before = Judge.apply({"params": params}, pictures, "encode_degradation").vector
    degraded = batch["percentile"] > 0.3
    seen = pretrain.restored_vectors(Judge, params, restored, pictures[:, :, ::-1])
    rows = (seen["restored"], seen["clean"], before, degraded)
    return distributed.share(losses.restored_ratio(*(distributed.gather(x) for x in rows)))


LOSSES = {"soft_nce": of_stage_two("soft_nce"), "ratio": of_stage_two("ratio"), "restored": of_stage_one}


@pytest.mark.parametrize("name", LOSSES)
def test_one_and_eight_devices_have_the_same_value_and_gradient(name):
    weight = RNG.standard_normal((48, 6)).astype(np.float32)

    def run(devices):
        def step(weight, batch):
            return distributed.total(jax.value_and_grad(LOSSES[name])(weight, batch))

        everywhere, split = PartitionSpec(), PartitionSpec(distributed.AXIS)
        mesh = distributed.make_mesh(jax.devices()[:devices])
        step = jax.shard_map(step, mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, check_vma=False)
        return jax.tree.map(np.asarray, jax.jit(step)(weight, BATCHED))

    (one, gradient), (eight, other) = run(1), run(8)
    assert one > 0 and np.linalg.norm(gradient) > 0
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    assert np.linalg.norm(other - gradient) < 1e-5 * np.linalg.norm(gradient)


def test_parts_of_a_batch_have_the_value_and_gradient_of_the_whole():
    """Also where the loss looks at a second view."""
    config = default()
    config.loss.rs, config.loss.rs_weight = "ratio", 1.0
    batch = {**BATCHED, "mos": BATCHED["percentile"], "index": np.arange(BATCH, dtype=np.int32)}

    def seen(params, batch, keys):
        found = look(params["weight"], batch)
        return found["q_tilde"].mean(axis=1), {**found, "mos_aux": found["d_tilde"].mean(axis=1)}

    loss = finetune.loss_of(config, seen, rs_terms.OF_SCORES["ratio"])
    everywhere, split = PartitionSpec(), PartitionSpec(distributed.AXIS)
    mesh, weight = distributed.make_mesh(jax.devices()[:2]), RNG.standard_normal((48, 6)).astype(np.float32)

    def run(parts):
        def step(flat, batch):
            return distributed.total(value_and_grad(loss, lambda flat: flat, parts)(flat, batch, 0))

        step = jax.shard_map(step, mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, check_vma=False)
        return jax.tree.map(np.asarray, jax.jit(step)({"weight": weight}, batch))

    ((value, terms), gradient), ((again, _), other) = run(1), run(2)
    assert terms["rs"] > 0 and np.linalg.norm(gradient["weight"]) > 0
    np.testing.assert_allclose(again, value, rtol=1e-5)
    difference = np.linalg.norm(other["weight"] - gradient["weight"])
    assert difference < 1e-5 * np.linalg.norm(gradient["weight"])


def test_a_mirrored_batch_is_that_of_mirrored_pictures():
    picture = RNG.integers(0, 256, (100, 140, 3), dtype=np.uint8)
    rule = ViewRule(short=64, long=128, tile=32, tiles=1, canvases=((96, 128),))
    batch, expected = (
        {key: jnp.asarray(value)[None] for key, value in make_view(each, rule).items()}
        for each in (picture, np.ascontiguousarray(picture[:, ::-1]))
    )
    found = jax.jit(rs_terms.mirrored)(batch)
    rows, cols = np.asarray(batch["valid"])[0]
    assert cols < 128
    inside = (np.asarray(x["whole"])[:, :rows, :cols].astype(int) for x in (found, expected))
    assert np.abs(np.subtract(*inside)).max() <= 1  # resizing rounds
    np.testing.assert_array_equal(found["tiles"], expected["tiles"])
    np.testing.assert_allclose(found["tile_boxes"], expected["tile_boxes"], atol=1e-6)


@pytest.mark.parametrize(
    "name, terms, said",
    [
        (
            "restored",
            rs_terms.OF_SCORES,
            "needs the clean image and a trainable.*one of soft_nce, ratio, none",
        ),
        ("ratio", rs_terms.OF_FEATURES, "needs a second view.*config.stage=finetune; .*one of soft_nce, none"),
        ("softnce", rs_terms.OF_SCORES, "config.loss.rs must be one of soft_nce, ratio, restored, none, got 'softnce'"),
    ],
)
def test_what_a_stage_cannot_serve_is_refused_saying_why(name, terms, said):
    config = default()
    config.loss.rs = name
    with pytest.raises(UserError, match=said):
        rs_terms.selected(config, terms)
