"""Stages 0+1: degraded photographs teach `E_d`, its heads and `R`; no human score is needed."""

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax import degradations, distributed, losses
from driqa_jax.data.pipeline import pretrain_batches
from driqa_jax.errors import UserError
from driqa_jax.train import rng
from driqa_jax.train.accumulation import Loss
from driqa_jax.train.auxiliary import rs_terms


def batches(config: ml_collections.ConfigDict, source, start_step: int, process_index: int, process_count: int):
    """The endless stream of this stage, from any step."""
    return pretrain_batches(
        source,
        config.pretrain.crop,
        config.batch_size,
        config.seed,
        start_step,
        process_index,
        process_count,
        config.data.threads,
        config.data.halve,
    )


def recipe(config: ml_collections.ConfigDict) -> degradations.Recipe | degradations.Mixture:
    """The recipe of a configuration. Raises UserError for one that cannot be drawn."""
    try:
        return degradations.Recipe.from_config(config.pretrain.recipe.to_dict())
    except ValueError as error:
        raise UserError(f"config.pretrain.{error}") from error


def degrade(config, photos, index, step):
    """The photos of one device under the chains of this step.

    Photos fall into blocks of `config.pretrain.block` neighbours in the global batch; all photos of a block stand under
    every chain of that block. A block lies on one device; a batch that is a single block (0) on all of them.

    Args:
      photos: (L, S, S, 3) float in [0, 1].
      index: (L,) int, their places in the stream.
      step: of the run.

    Returns:
      pictures (blocks, chains, photos, S, S, 3), the part that this device holds; their Chain, arrays
      (blocks, chains, steps); and the blocks' numbers (blocks,) int, the same on all devices that share one.

    Raises:
      UserError: the recipe cannot be drawn, or a device would hold a part of a block.
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

    def one(inputs):
        return degradations.apply_chains(*inputs, drawn.eight_bit, drawn.drawn())

    photos, index = (x.reshape(blocks, -1, *x.shape[1:]) for x in (photos, index))
    return jax.lax.map(one, (keys, photos, chains, index)), chains, numbers


def make_loss(config: ml_collections.ConfigDict, model) -> Loss:
    """`L_res` and, weighted, `L_con` and the two parts of `L_type` on the global batch; `L_RS` where it is "restored".

    Raises:
      UserError: an unknown RS loss or distance, or the RS loss "restored" where nothing is restored.
    """
    weights = config.loss
    rs_terms.require_known(config)
    if weights.rs == "restored" and not config.pretrain.restored:
        raise UserError("config.loss.rs='restored' wants R to restore; set config.pretrain.restored above 0")
    distance = losses.DISTANCES.get(weights.restoration_distance)
    if distance is None:
        raise UserError(
            f"config.loss.restoration_distance is {weights.restoration_distance!r}; "
            f"the choices are {', '.join(losses.DISTANCES)}"
        )
    # Devices hold whole blocks, or parts of the only one.
    axis = 0 if config.pretrain.block else 2

    def gathered(x, shape):
        return distributed.gather(x.reshape(*shape, *x.shape[1:]), axis=axis)

    def read(params, batch, step):
        photos = batch["photo"] / 255.0
        pictures, chains, numbers = degrade(config, photos, batch["index"], step)
        blocks, count, width = shape = pictures.shape[:3]
        flat = pictures.reshape(-1, *photos.shape[1:])
        seen = model.apply({"params": params}, flat, method="encode_degradation")

        # R reads, for half the chains, the vector of another photo under the same chain: what is left in `d` of
        # the picture itself then does not help.
        vectors = gathered(seen.vector, shape)
        swapped = jax.random.bernoulli(rng.stream(config.seed, "swap", step), 0.5, (count,))
        vectors = jnp.where(swapped[None, :, None, None], jnp.roll(vectors, 1, axis=2), vectors)
        vectors = distributed.local_slice(vectors, axis=axis)
        readings = {"logits": seen.logits, "severity": seen.severity, "projection": seen.projection}
        # E_d learns from more pictures than R, whose step costs many times as much.
        if config.pretrain.restored:
            kept = max(1, round(config.pretrain.restored * count))
            before, vectors = (x[:, :kept].reshape(-1, *x.shape[3:]) for x in (pictures, vectors))
            restored = model.apply({"params": params}, before, vectors, method="restore")
            clean = jnp.broadcast_to(photos.reshape(blocks, 1, width, *photos.shape[1:]), pictures[:, :kept].shape)
            clean = clean.reshape(before.shape)
            readings["restoration"] = jax.vmap(distance)(restored[:, None], clean[:, None])
            if weights.rs == "restored":
                readings |= judged(model, params, restored, clean)
                readings["before"] = seen.vector.reshape(*shape, -1)[:, :kept].reshape(before.shape[0], -1)
        return readings, (chains, numbers)

    def compare(readings, facts, batch, step):
        del step
        chains, numbers = facts
        blocks, count = chains.types.shape[:2]
        width = batch["index"].shape[0] // blocks

        def everywhere(x):
            """One value a block and chain, local, to one a picture, global."""
            x = jnp.broadcast_to(x[:, :, None], (blocks, count, width, *x.shape[2:]))
            x = distributed.gather(x, axis=axis)
            return x.reshape(-1, *x.shape[3:])

        # Chains that come out clean are one chain, whatever their block.
        is_clean = (chains.types == degradations.CLEAN).all(axis=2)
        chain_ids = jnp.where(is_clean, -1, numbers[:, None] * count + jnp.arange(count)[None, :])
        photo_ids = jnp.broadcast_to(batch["index"].reshape(blocks, 1, width), (blocks, count, width))
        present, severity = (everywhere(x) for x in jax.vmap(degradations.labels)(chains))
        logits, severity_hat, projection = (
            gathered(readings[name], (blocks, count, width)).reshape(-1, readings[name].shape[-1])
            for name in ("logits", "severity", "projection")
        )
        naming, grading = losses.naming_loss(logits, severity_hat, present, severity)
        photo_ids = distributed.gather(photo_ids, axis=axis).reshape(-1)
        terms = {
            "contrast": losses.supcon(projection, everywhere(chain_ids), photo_ids),
            "naming": naming,
            "severity": grading,
        }
        shares = {name: distributed.share(term) for name, term in terms.items()}
        if "restoration" in readings:
            # A mean over samples needs no gather: equal parts of it add up.
            shares["restoration"] = distributed.share(readings["restoration"].mean())
        if "restored" in readings:
            kept = readings["restored"].shape[0] // (blocks * width)
            degraded = jnp.broadcast_to(~is_clean[:, :kept, None], (blocks, kept, width)).reshape(-1)
            rows = (readings["restored"], readings["clean"], readings["before"], degraded)
            shares["rs"] = distributed.share(losses.restored_ratio(*(distributed.gather(x) for x in rows)))
        factors = {**weights, "rs": weights.rs_weight}
        return sum(factors[name] * share for name, share in shares.items()), shares

    return Loss(
        read,
        compare,
        config.pretrain.block,
        "with config.pretrain.block=0 all photos stand under the same chains and are read together; set "
        "config.pretrain.block to a number that divides a part of the batch, or accumulate to 1",
    )


def judged(model, params, restored, clean) -> dict[str, jax.Array]:
    """For the RS loss "restored", by which `R` is to bring the vector of a picture to that of the clean one.

    `E_d` is the judge here and learns nothing from it, or it would call the restored clean whatever it looks like.

    Args:
      restored, clean: (M, S, S, 3).

    Returns:
      `restored` and `clean`, their vectors (M, C).
    """
    judge = {"degradation_encoder": jax.lax.stop_gradient(params["degradation_encoder"])}

    def vector(pictures):
        return model.apply({"params": judge}, pictures, method="encode_degradation").vector

    return {"restored": vector(restored), "clean": vector(clean)}
