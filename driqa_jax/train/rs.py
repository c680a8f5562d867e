"""The RS loss of each stage, by the value of `config.loss.rs`; see `losses.rs` for the forms."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax import losses, parallel
from driqa_jax.errors import UserError

CHOICES = ("soft_nce", "ratio", "restored", "none")


def soft_nce(weights, batch, out, look) -> jax.Array:
    """The agreement of the projections `rs_q` and `rs_d`; see `losses.soft_nce`."""
    del look
    return losses.soft_nce(
        parallel.gather(out["rs_q"]),
        parallel.gather(out["rs_d"]),
        parallel.gather(batch["percentile"]),
        parallel.gather(batch["dataset"]),
        tau=weights.rs_tau,
        sigma=weights.rs_sigma,
    )


def ratio(weights, batch, out, look) -> jax.Array:
    """The mean of `losses.ratio` over `q~` and `d~`, the other view being the picture mirrored."""
    del weights
    other = look(mirrored(batch))
    labels = [parallel.gather(batch[key]) for key in ("percentile", "dataset")]
    both = [
        losses.ratio(parallel.gather(out[key]), parallel.gather(other[key]), *labels) for key in ("q_tilde", "d_tilde")
    ]
    return sum(both) / 2


def nothing(weights, batch, out, look) -> jax.Array:
    """No RS loss."""
    del weights, batch, out, look
    return jnp.zeros(())


# (config.loss, batch, what the model said of it, the model as a function of a batch) -> the global loss.
OF_SCORES: dict[str, Callable] = {"soft_nce": soft_nce, "ratio": ratio, "none": nothing}
# One view of a picture is kept.
OF_FEATURES: dict[str, Callable] = {name: OF_SCORES[name] for name in ("soft_nce", "none")}
_WHY_NOT = {
    "ratio": "needs a second view of each picture, and kept features are of one; train with config.stage=finetune",
    "restored": "needs the clean picture and a restorer that is trained; pretrain with it (config.stage=pretrain), "
    "and start from that run with another config.loss.rs",
}


def picked(config: ml_collections.ConfigDict, terms: dict[str, Callable]) -> Callable:
    """The one of `terms` that `config.loss.rs` names.

    Raises:
      UserError: it names none, or one that this stage cannot serve; the message says which can.
    """
    name = config.loss.rs
    require_known(config)
    if name not in terms:
        raise UserError(f"config.loss.rs={name!r} {_WHY_NOT[name]}; here: {', '.join(terms)}")
    return terms[name]


def require_known(config: ml_collections.ConfigDict) -> None:
    """Raises UserError, naming the choices, where `config.loss.rs` is none of them."""
    if config.loss.rs not in CHOICES:
        raise UserError(f"config.loss.rs is {config.loss.rs!r}; the choices are {', '.join(CHOICES)}")


def mirrored(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Views, as `pipeline.finetune_batches` gives them, of the pictures mirrored left to right; labels as they are."""
    whole, width = batch["whole"], batch["whole"].shape[2]
    columns = batch["valid"][:, 1:] - 1 - jnp.arange(width)[None, :]
    # Beyond the picture lies what is masked: any column will do.
    turned = jnp.take_along_axis(whole, jnp.maximum(columns, 0)[:, None, :, None], axis=2)
    y0, x0, y1, x1 = jnp.moveaxis(batch["tile_boxes"], -1, 0)
    boxes = jnp.stack([y0, 1 - x1, y1, 1 - x0], axis=-1)
    return {**batch, "whole": turned, "tiles": batch["tiles"][:, :, :, ::-1], "tile_boxes": boxes}
