"""The RS loss of each stage, by the value of `config.loss.rs`; see `losses.rs` for the forms."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax import losses
from driqa_jax.errors import UserError

CHOICES = (*losses.RS_LOSSES, "none")


class Term(NamedTuple):
    """An RS loss of stage 2, in the two halves of `accumulation.Loss`.

    read: (batch, what the model said of it, the model as a function of a batch) -> arrays (B, C) by name.
    compare: (config.loss, these of the global batch, its percentile (B,), its dataset (B,)) -> the loss.
    """

    read: Callable
    compare: Callable


def projections(batch, out, look) -> dict[str, jax.Array]:
    """`rs_q` and `rs_d`."""
    del batch, look
    return {key: out[key] for key in ("rs_q", "rs_d")}


def soft_nce(weights, seen, percentile, dataset) -> jax.Array:
    """The agreement of the projections; see `losses.soft_nce`."""
    return losses.soft_nce(seen["rs_q"], seen["rs_d"], percentile, dataset, tau=weights.rs_tau, sigma=weights.rs_sigma)


_OF_TWO_VIEWS = ("q_tilde", "d_tilde")


def two_views(batch, out, look) -> dict[str, jax.Array]:
    """`q~` and `d~`, and `other_`, the same of the picture mirrored."""
    other = look(mirrored(batch))
    # The loss stops these gradients too; parts of a batch would else be gone back through for zeros.
    others = {f"other_{key}": jax.lax.stop_gradient(other[key]) for key in _OF_TWO_VIEWS}
    return {key: out[key] for key in _OF_TWO_VIEWS} | others


def ratio(weights, seen, percentile, dataset) -> jax.Array:
    """The mean of `losses.ratio` over `q~` and `d~`."""
    del weights
    return sum(losses.ratio(seen[key], seen[f"other_{key}"], percentile, dataset) for key in _OF_TWO_VIEWS) / 2


OF_SCORES: dict[str, Term] = {
    "soft_nce": Term(projections, soft_nce),
    "ratio": Term(two_views, ratio),
    "none": Term(lambda *unused: {}, lambda *unused: jnp.zeros(())),
}
# One view of a picture is kept.
OF_FEATURES: dict[str, Term] = {name: OF_SCORES[name] for name in ("soft_nce", "none")}
_WHY_NOT = {
    "ratio": "needs a second view of each picture, and kept features are of one; train with config.stage=finetune",
    "restored": "needs the clean picture and a restorer that is trained; pretrain with it (config.stage=pretrain), "
    "and start from that run with another config.loss.rs",
}


def picked(config: ml_collections.ConfigDict, terms: dict[str, Term]) -> Term:
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
