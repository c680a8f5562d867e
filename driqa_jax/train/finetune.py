"""Stage 2: human scores teach `E_q`, the interaction and the predictor; `E_d` and `R` stand still."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax import losses, parallel
from driqa_jax.data.pipeline import finetune_batches
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.models.switches import chosen
from driqa_jax.train import rank, rng, rs
from driqa_jax.train.accumulation import Loss


def view_rule(config: ml_collections.ConfigDict, tiles: int) -> ViewRule:
    """The view of a configuration; training and evaluation may differ in the number of tiles alone.

    Raises UserError for one that cannot be.
    """
    tile = config.view.tile
    canvases = {"crop": {"canvases": ((tile, tile),)}}.get(config.view.kind, {})
    try:
        return ViewRule(short=config.view.short, tile=tile, tiles=tiles, kind=config.view.kind, **canvases)
    except ValueError as error:
        raise UserError(f"config.view: {error}") from None


def as_inputs(batch: dict) -> tuple:
    """uint8 views to what the model takes; float only once on the device."""
    return batch["whole"] / 255.0, batch["valid"], batch["tiles"] / 255.0, batch["tile_boxes"]


def batches(config: ml_collections.ConfigDict, source, start_step: int, process_index: int, process_count: int):
    """The endless stream of this stage, from any step.

    Raises UserError for a `config.view.shrink` beyond (0, 1], or where a picture has no score.
    """
    if not 0.0 < config.view.shrink <= 1.0:
        raise UserError(f"config.view.shrink={config.view.shrink}: a share of a photo's sides is above 0, at most 1")
    require_scores(source)
    return finetune_batches(
        source,
        view_rule(config, config.view.tiles),
        tuple(config.view.canvas),
        config.batch_size,
        config.seed,
        start_step,
        process_index,
        process_count,
        config.data.threads,
        shrink=config.view.shrink,
    )


def require_scores(source) -> None:
    """Raises UserError where a picture of the source has no score."""
    unscored = int((~np.isfinite(source.column("mos"))).sum())
    if unscored:
        raise UserError(f"{source.name}: {unscored} of {len(source)} pictures have no score to learn from")


def make_loss(config: ml_collections.ConfigDict, model) -> Loss:
    """`L_mos + w_plcc L_plcc + w_rs L_RS + w_aux L_aux + w_rank L_rank` on the global batch; see docs/METHOD.md.

    Raises:
      UserError: an RS loss that this stage has not.
    """

    def look(params, batch, keys):
        return model.apply({"params": params}, *as_inputs(batch), keys)

    return loss_of(config, look, rs.picked(config, rs.OF_SCORES), pairs_of(config) if config.loss.rank else None)


def pairs_of(config):
    """(batch, step) -> views of its rank pairs; see `rank.views`."""
    rule = view_rule(config, config.view.tiles)
    return lambda batch, step: rank.views(config, rule, batch, step)


def loss_of(config: ml_collections.ConfigDict, look, rs_term: rs.Term, pairs=None) -> Loss:
    """The loss of scores, of whatever model.

    Args:
      look: (params, batch, keys) -> (mos, out), as the model gives them.
      pairs: (batch, step) -> views of rank pairs made of it, the better ones first; None without.
    """
    weights = config.loss

    def read(params, batch, step):
        stream = rng.stream(config.seed, "dropout", step)
        keys = rng.per_example(stream, batch["index"])
        if pairs is None:
            mos, out = look(params, batch, keys)
            ranked = {}
        else:
            # One call for all: another would compile the model a second time.
            made, own = pairs(batch, step), batch["index"].shape[0]
            count = made["index"].shape[0]
            joined = {name: jnp.concatenate([batch[name], made[name]]) for name in made}
            mos, out = look(params, joined, rng.per_example(stream, joined["index"]))
            out = jax.tree.map(lambda x: x[: x.shape[0] * own // (own + count)], out)
            mos, better, worse = jnp.split(mos, [own, own + count // 2])
            ranked = {"better": better, "worse": worse}
        compared = rs_term.read(batch, out, lambda other: look(params, other, keys)[1])
        return {"mos": mos, "aux": out["mos_aux"], **compared, **ranked}, {}

    def compare(seen, facts, batch, step):
        del facts, step  # the labels are in the batch
        seen = {name: parallel.gather(value) for name, value in seen.items()}
        label, percentile, dataset = (parallel.gather(batch[key]) for key in ("mos", "percentile", "dataset"))
        terms = {
            "mos": losses.mos_l1(seen["mos"], label),
            "plcc": losses.plcc_loss(seen["mos"], label),
            "rs": rs_term.compare(weights, seen, percentile, dataset),
            "aux": losses.mos_l1(seen["aux"], label),
        }
        if pairs is not None:
            terms["rank"] = losses.rank_hinge(seen["better"], seen["worse"])
        value = (
            weights.mos * terms["mos"]
            + weights.plcc * terms["plcc"]
            + weights.rs_weight * terms["rs"]
            + weights.aux * terms["aux"]
            + weights.rank * terms.get("rank", 0.0)
        )
        return parallel.share(value), {name: parallel.share(term) for name, term in terms.items()}

    together = config.rank.every if pairs is not None else 1
    together = 0 if chosen(config.model)["degradation"] == "shuffled" else together
    return Loss(
        read,
        compare,
        together,
        "with config.model.degradation='shuffled' a photo is given the degradation of one half a batch away; set "
        "accumulate to 1",
    )


def example(config: ml_collections.ConfigDict) -> tuple:
    """The smallest inputs of the right ranks, to make parameters with."""
    side = 32
    return (
        jnp.zeros((1, side, side, 3)),
        jnp.full((1, 2), side, jnp.int32),
        jnp.zeros((1, 1, side, side, 3)),
        jnp.asarray([[[0.0, 0.0, 1.0, 1.0]]]),
    )
