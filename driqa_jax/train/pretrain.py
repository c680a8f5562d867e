"""Stages 0+1: degraded photographs teach `E_d`, its heads and `R`; no human score is needed."""

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax import degradations, losses, parallel
from driqa_jax.data.pipeline import pretrain_batches
from driqa_jax.errors import UserError
from driqa_jax.train import rng


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
    """Every photo under every chain of this step: (P, S, S, 3) -> (K, P, S, S, 3), and the chains."""
    drawn = recipe(config)
    chains = degradations.sample_chains(rng.stream(config.seed, "chains", step), drawn, config.pretrain.chains)
    key = rng.stream(config.seed, "degradation", step)
    return degradations.apply_chains(key, photos, chains, index, drawn.eight_bit), chains


def make_loss(config: ml_collections.ConfigDict, model):
    """`L_res + w_con L_con + L_type` on the global batch."""
    weights = config.loss
    count = config.pretrain.chains

    def loss(params, batch, step):
        photos = batch["photo"] / 255.0
        degraded, chains = degrade(config, photos, batch["index"], step)
        flat = degraded.reshape(-1, *photos.shape[1:])
        seen = model.apply({"params": params}, flat, method="encode_degradation")

        def gathered(x):
            return parallel.gather(x.reshape(count, photos.shape[0], -1), axis=1)

        # R reads, for half the chains, the vector of another photo under the same chain: what is left in `d` of
        # the picture itself then does not help.
        vectors = gathered(seen.vector)
        swapped = jax.random.bernoulli(rng.stream(config.seed, "swap", step), 0.5, (count,))
        vectors = jnp.where(swapped[:, None, None], jnp.roll(vectors, 1, axis=1), vectors)
        vectors = parallel.local_slice(vectors, axis=1)
        # E_d learns from more pictures than R, whose step costs twice as much.
        kept = max(1, round(config.pretrain.restored * photos.shape[0]))
        before, vectors = (x[:, :kept].reshape(count * kept, *x.shape[2:]) for x in (degraded, vectors))
        restored = model.apply({"params": params}, before, vectors, method="restore")
        clean = jnp.broadcast_to(photos[None, :kept], (count, kept, *photos.shape[1:])).reshape(before.shape)

        projection = gathered(seen.projection)
        width = projection.shape[1]
        chain_ids = jnp.repeat(jnp.arange(count), width)
        # Two chains can both come out clean; they are then one.
        is_clean = (chains.types == degradations.CLEAN).all(axis=1)
        first_clean = jnp.argmax(is_clean)
        chain_ids = jnp.where(is_clean[chain_ids], first_clean, chain_ids)
        photo_ids = jnp.tile(jnp.arange(width), count)
        present, severity = (jnp.repeat(x, width, axis=0) for x in degradations.labels(chains))
        logits, severity_hat = (gathered(x).reshape(count * width, -1) for x in (seen.logits, seen.severity))
        naming, grading = losses.naming_loss(logits, severity_hat, present, severity)
        terms = {
            "contrast": losses.supcon(projection.reshape(count * width, -1), chain_ids, photo_ids),
            "naming": naming,
            "severity": grading,
        }
        shares = {name: parallel.share(term) for name, term in terms.items()}
        # A mean over samples needs no gather: equal parts of it add up.
        shares["restoration"] = parallel.share(losses.charbonnier(restored, clean))
        value = (
            weights.restoration * shares["restoration"]
            + weights.contrast * shares["contrast"]
            + weights.naming * (shares["naming"] + shares["severity"])
        )
        return value, shares

    return loss
