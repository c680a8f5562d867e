"""Stage 0+1: `E_d`, its heads and `R` learn from degraded photographs, without human scores."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from driqa_jax import degradations, distributed, losses
from driqa_jax.data.pipeline import Batch, Place, pretrain_batches
from driqa_jax.data.source import Source
from driqa_jax.errors import UserError, require_choice, user_errors
from driqa_jax.models.driqa import DRIQA
from driqa_jax.train import rng
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.step import Loss


def batches(config: ConfigDict, source: Source, *place: int) -> Iterator[Batch]:
    """The endless stream of batches; `place`: start_step, process_index, process_count."""
    data = config.data
    where = Place(*place, data.threads)
    return pretrain_batches(source, config.pretrain.crop, config.batch_size, config.seed, data.halve, where)


def recipe(config: ConfigDict) -> degradations.Recipe | degradations.Mixture:
    """The recipe of a configuration. Raises UserError for an invalid one."""
    with user_errors("config.pretrain.{}"):
        return degradations.Recipe.from_config(config.pretrain.recipe.to_dict())


def degrade(
    config: ConfigDict, photos: jax.Array, index: jax.Array, step: jax.Array | int
) -> tuple[jax.Array, degradations.Chain, jax.Array]:
    """Degrade the photos of one device with the chains of this step.

    `config.pretrain.block` consecutive photos of the global batch form a block; every chain of a block is applied to
    all its photos. One device holds a whole block, except for block 0, where the batch is one block on all devices.

    Args:
      photos: (L, S, S, 3) float in [0, 1].
      index: (L,) int, the positions of the photos in the stream.

    Returns:
      images (blocks, chains, photos, S, S, 3), the part on this device; their Chain, arrays (blocks, chains, steps);
      and the numbers of the blocks (blocks,) int, the same on all devices that share a block.

    Raises UserError if the recipe is invalid, or a device would hold a part of a block.
    """
    drawn = recipe(config)
    size = config.pretrain.block
    if size and photos.shape[0] % size:
        raise UserError(
            f"config.pretrain.block={size} does not divide the {photos.shape[0]} photos of a device; "
            "set config.batch_size to a multiple of devices * block, or block to 0, the whole batch"
        )
    blocks = photos.shape[0] // size if size else 1
    numbers = index[:: photos.shape[0] // blocks] // size if size else jnp.zeros((1,), index.dtype)
    keys = rng.per_example(rng.stream(config.seed, "chains", step), numbers)
    chains = jax.vmap(lambda key: degradations.sample_chains(key, drawn, config.pretrain.chains))(keys)
    keys = rng.per_example(rng.stream(config.seed, "degradation", step), numbers)

    def apply(inputs):
        return degradations.apply_chains(*inputs, drawn.eight_bit, drawn.drawn())

    photos, index = (x.reshape(blocks, -1, *x.shape[1:]) for x in (photos, index))
    return jax.lax.map(apply, (keys, photos, chains, index)), chains, numbers


def make_loss(config: ConfigDict, model: DRIQA) -> Loss:
    """`L_res` and, by their weights, `L_con` and the two parts of `L_type` on the global batch; `L_RS` if "restored".

    Raises UserError for an unknown RS loss or distance, or the RS loss "restored" although nothing is restored.
    """
    weights = config.loss
    require_choice("loss.rs", weights.rs, rs_terms.CHOICES)
    if weights.rs == "restored" and not config.pretrain.restored:
        raise UserError("config.loss.rs='restored' needs restored images; set config.pretrain.restored above 0")
    require_choice("loss.restoration_distance", weights.restoration_distance, losses.DISTANCES)
    return Loss(
        functools.partial(_read, config, model),
        functools.partial(_compare, config),
        config.pretrain.block,
        "with config.pretrain.block=0 all photos share their chains and are read together; set "
        "config.pretrain.block to a number that divides a part of the batch, or accumulate to 1",
    )


def _gathered(config, x, shape):
    """Rows of this device as (blocks, chains, photos, ...) of all devices, which hold whole blocks or share one."""
    return distributed.gather(x.reshape(*shape, *x.shape[1:]), axis=_device_axis(config))


def _device_axis(config) -> int:
    return 0 if config.pretrain.block else 2


def _read(config, model, params, batch, step):
    """The first half of the loss, see `step.Loss`."""
    photos = batch["photo"] / 255.0
    images, chains, numbers = degrade(config, photos, batch["index"], step)
    blocks, count, width = shape = images.shape[:3]
    encoded = model.apply({"params": params}, images.reshape(-1, *photos.shape[1:]), method="encode_degradation")

    # For half the chains R reads the vector of another photo with the same chain. What `d` still holds of the image
    # itself then does not help.
    vectors = _gathered(config, encoded.vector, shape)
    swapped = jax.random.bernoulli(rng.stream(config.seed, "swap", step), 0.5, (count,))
    vectors = jnp.where(swapped[None, :, None, None], jnp.roll(vectors, 1, axis=2), vectors)
    vectors = distributed.local_slice(vectors, axis=_device_axis(config))
    readings = {"logits": encoded.logits, "severity": encoded.severity, "projection": encoded.projection}
    # E_d learns from more images than R, whose step costs many times as much.
    if config.pretrain.restored:
        kept = max(1, round(config.pretrain.restored * count))
        before, vectors = (x[:, :kept].reshape(-1, *x.shape[3:]) for x in (images, vectors))
        restored = model.apply({"params": params}, before, vectors, method="restore")
        clean = jnp.broadcast_to(photos.reshape(blocks, 1, width, *photos.shape[1:]), images[:, :kept].shape)
        clean = clean.reshape(before.shape)
        distance = losses.DISTANCES[config.loss.restoration_distance]
        readings["restoration"] = jax.vmap(distance)(restored[:, None], clean[:, None])
        if config.loss.rs == "restored":
            readings |= restored_vectors(model, params, restored, clean)
            readings["before"] = encoded.vector.reshape(*shape, -1)[:, :kept].reshape(before.shape[0], -1)
    return readings, (chains, numbers)


def _compare(config, readings, facts, batch, step):
    """The second half of the loss, see `step.Loss`."""
    del step
    chains, numbers = facts
    blocks, count = chains.types.shape[:2]
    width = batch["index"].shape[0] // blocks
    shape, axis = (blocks, count, width), _device_axis(config)

    def per_image(x):
        """One value per block and chain on this device to one value per image of all devices."""
        x = distributed.gather(jnp.broadcast_to(x[:, :, None], (*shape, *x.shape[2:])), axis=axis)
        return x.reshape(-1, *x.shape[3:])

    # All chains without a degradation are one chain, whatever their block.
    is_clean = (chains.types == degradations.CLEAN).all(axis=2)
    chain_ids = jnp.where(is_clean, -1, numbers[:, None] * count + jnp.arange(count)[None, :])
    photo_ids = jnp.broadcast_to(batch["index"].reshape(blocks, 1, width), shape)
    present, severity = (per_image(x) for x in jax.vmap(degradations.labels)(chains))
    logits, severity_hat, projection = (
        _gathered(config, readings[name], shape).reshape(-1, readings[name].shape[-1])
        for name in ("logits", "severity", "projection")
    )
    naming, grading = losses.naming_loss(logits, severity_hat, present, severity)
    photo_ids = distributed.gather(photo_ids, axis=axis).reshape(-1)
    terms = {
        "contrast": losses.supcon(projection, per_image(chain_ids), photo_ids),
        "naming": naming,
        "severity": grading,
    }
    shares = {name: distributed.share(term) for name, term in terms.items()}
    if "restoration" in readings:
        # The means of equal parts add up to the mean of the whole, so nothing is gathered.
        shares["restoration"] = distributed.share(readings["restoration"].mean())
    if "restored" in readings:
        kept = readings["restored"].shape[0] // (blocks * width)
        degraded = jnp.broadcast_to(~is_clean[:, :kept, None], (blocks, kept, width)).reshape(-1)
        rows = (readings["restored"], readings["clean"], readings["before"], degraded)
        shares["rs"] = distributed.share(losses.restored_ratio(*(distributed.gather(x) for x in rows)))
    factors = {**config.loss, "rs": config.loss.rs_weight}
    return sum(factors[name] * share for name, share in shares.items()), shares


def restored_vectors(model: DRIQA, params: dict, restored: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
    """For the RS loss "restored", which pulls the vector of a restored image to that of the clean one.

    `E_d` gets no gradient from it; otherwise it would learn to call any restored image clean. From images (M, S, S, 3)
    float in [0, 1], returns `restored` and `clean`, their vectors (M, C).
    """
    judge = {"degradation_encoder": jax.lax.stop_gradient(params["degradation_encoder"])}

    def vector(images):
        return model.apply({"params": judge}, images, method="encode_degradation").vector

    return {"restored": vector(restored), "clean": vector(clean)}
