"""The RS loss of each stage, chosen by `config.loss.rs`; `losses.rs` defines the forms."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from driqa_jax import losses
from driqa_jax.data.views import VIEWS
from driqa_jax.errors import UserError, require_choice
from driqa_jax.inference import program

Arrays = dict[str, jax.Array]
CHOICES = (*losses.RS_LOSSES, "none")


class RSTerm(NamedTuple):
    """An RS loss of stage 2, in the two halves of `step.Loss`.

    read: (batch, outputs of the model on it, the model as a function of a batch) -> arrays (B, C) by name.
    compare: (config.loss, these arrays of the global batch, percentile (B,), dataset (B,)) -> the loss.
    """

    read: Callable
    compare: Callable


def projections(batch: Arrays, out: Arrays, look: Callable) -> Arrays:
    """`rs_q` and `rs_d`, (B, C) each."""
    del batch, look
    return {key: out[key] for key in ("rs_q", "rs_d")}


def soft_nce(weights: ConfigDict, arrays: Arrays, percentile: jax.Array, dataset: jax.Array) -> jax.Array:
    """The agreement of the projections, see `losses.soft_nce`."""
    rs_q, rs_d = arrays["rs_q"], arrays["rs_d"]
    return losses.soft_nce(rs_q, rs_d, percentile, dataset, tau=weights.rs_tau, sigma=weights.rs_sigma)


_TWO_VIEW_KEYS = ("q_tilde", "d_tilde")


def two_views(batch: Arrays, out: Arrays, look: Callable) -> Arrays:
    """`q~` and `d~`, and with the prefix `other_` the same of the mirrored image."""
    other = look(mirrored(batch))
    # The loss stops these gradients too. Stopping them here saves a backward pass of zeros through parts of a batch.
    others = {f"other_{key}": jax.lax.stop_gradient(other[key]) for key in _TWO_VIEW_KEYS}
    return {key: out[key] for key in _TWO_VIEW_KEYS} | others


def ratio(weights: ConfigDict, arrays: Arrays, percentile: jax.Array, dataset: jax.Array) -> jax.Array:
    """The mean of `losses.ratio` over `q~` and `d~`."""
    del weights
    return sum(losses.ratio(arrays[key], arrays[f"other_{key}"], percentile, dataset) for key in _TWO_VIEW_KEYS) / 2


OF_SCORES: dict[str, RSTerm] = {
    "soft_nce": RSTerm(projections, soft_nce),
    "ratio": RSTerm(two_views, ratio),
    "none": RSTerm(lambda *unused: {}, lambda *unused: jnp.zeros(())),
}
# The feature store keeps one view of an image.
OF_FEATURES: dict[str, RSTerm] = {name: OF_SCORES[name] for name in ("soft_nce", "none")}
_UNSUPPORTED = {
    "ratio": "needs a second view of each image, and kept features have one; train with config.stage=finetune",
    "restored": "needs the clean image and a trainable restorer; pretrain with it (config.stage=pretrain), and start "
    "from that run with another config.loss.rs",
}


def selected(config: ConfigDict, terms: dict[str, RSTerm]) -> RSTerm:
    """The one of `terms` that `config.loss.rs` names. Raises UserError for a name that this stage does not support."""
    name = config.loss.rs
    require_choice("loss.rs", name, CHOICES)
    if name not in terms:
        raise UserError(
            f"config.loss.rs={name!r} {_UNSUPPORTED[name]}; in this stage it must be one of {', '.join(terms)}"
        )
    return terms[name]


def mirrored(batch: Arrays) -> Arrays:
    """A batch of `pipeline.finetune_batches` with every image mirrored left to right and the labels unchanged."""
    return {**batch, **dict(zip(VIEWS, program.mirrored(*(batch[name] for name in VIEWS)), strict=True))}
