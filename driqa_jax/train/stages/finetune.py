"""Stage 2: human scores teach `E_q`, the interaction and the predictor; `E_d` and `R` stand still."""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax import distributed, losses
from driqa_jax.data.perturbed_pairs import FINEST
from driqa_jax.data.pipeline import finetune_batches
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import chosen
from driqa_jax.train import rng
from driqa_jax.train.accumulation import Loss
from driqa_jax.train.auxiliary import consistency, ranking, rs_terms

# Terms of pictures that are made of the batch's and have no human score, by their weight in `config.loss`. Each module
# says by `views` what is looked at besides, by `read` what is kept of its scores, by `compare` what that costs on the
# global batch, and by `together` how many neighbouring examples it is made of.
EXTRAS = {"rank": ranking, "same": consistency}
LOOKED_AT = ("whole", "valid", "tiles", "tile_boxes", "index")


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

    Raises UserError for a `config.view.shrink` or `quality` that cannot be, or where a picture has no score.
    """
    if not 0.0 < config.view.shrink <= 1.0:
        raise UserError(f"config.view.shrink={config.view.shrink}: a share of a photo's sides is above 0, at most 1")
    quality = config.view.quality
    if not 1 <= quality <= FINEST and quality != 100:
        raise UserError(f"config.view.quality={quality}: a JPEG's is 1 to {FINEST}, and 100 encodes nothing")
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
        quality=quality,
        twins=consistency.wanted(config),
    )


def require_scores(source) -> None:
    """Raises UserError where a picture of the source has no score."""
    unscored = int((~np.isfinite(source.column("mos"))).sum())
    if unscored:
        raise UserError(f"{source.name}: {unscored} of {len(source)} pictures have no score to learn from")


def make_loss(config: ml_collections.ConfigDict, model) -> Loss:
    """`L_mos`, and by their weights `L_plcc, L_RS, L_aux, L_rank, L_same`, on the global batch; see docs/METHOD.md.

    Raises:
      UserError: an RS loss that this stage has not, or types of rank pairs that cannot be drawn.
    """
    if config.loss.rank:
        ranking.require_often(config.rank.often)

    def look(params, batch, keys):
        return model.apply({"params": params}, *as_inputs(batch), keys)

    return loss_of(config, look, rs_terms.picked(config, rs_terms.OF_SCORES), view_rule(config, config.view.tiles))


def neighbours(config: ml_collections.ConfigDict) -> int:
    """So many neighbouring examples are read by one device, at one time."""
    return math.lcm(1, *(extra.together(config) for name, extra in EXTRAS.items() if config.loss[name]))


def loss_of(config: ml_collections.ConfigDict, look, rs_term: rs_terms.Term, rule: ViewRule | None = None) -> Loss:
    """The loss of scores, of whatever model.

    Args:
      look: (params, batch, keys) -> (mos, out), as the model gives them.
      rule: by which the batch's views are made; None where it has none, and so no EXTRAS.
    """
    weights = config.loss
    extras = {name: extra for name, extra in EXTRAS.items() if rule is not None and weights[name]}

    def read(params, batch, step):
        stream = rng.stream(config.seed, "dropout", step)
        # One call for all pictures: another would compile the model a second time.
        made = {name: extra.views(config, rule, batch, step) for name, extra in extras.items()}
        counts = [batch["index"].shape[0], *(views["index"].shape[0] for views in made.values())]
        seen = batch
        if made:
            seen = {name: jnp.concatenate([batch[name], *(x[name] for x in made.values())]) for name in LOOKED_AT}
        keys = rng.per_example(stream, seen["index"])
        mos, out = look(params, seen, keys)
        out = jax.tree.map(lambda x: x[: x.shape[0] * counts[0] // sum(counts)], out)
        mos, *others = jnp.split(mos, np.cumsum(counts)[:-1])
        found = {name: extras[name].read(config, mos, x) for name, x in zip(made, others, strict=True)}
        compared = rs_term.read(batch, out, lambda other: look(params, other, keys[: counts[0]])[1])
        return {"mos": mos, "aux": out["mos_aux"], **compared, **found}, {}

    def compare(seen, facts, batch, step):
        del facts, step  # the labels are in the batch
        seen = jax.tree.map(distributed.gather, seen)
        label, percentile, dataset = (distributed.gather(batch[key]) for key in ("mos", "percentile", "dataset"))
        terms = {
            "mos": losses.mos_l1(seen["mos"], label),
            "plcc": losses.plcc_loss(seen["mos"], label),
            "rs": rs_term.compare(weights, seen, percentile, dataset),
            "aux": losses.mos_l1(seen["aux"], label),
        }
        terms |= {name: extra.compare(seen[name]) for name, extra in extras.items()}
        value = (
            weights.mos * terms["mos"]
            + weights.plcc * terms["plcc"]
            + weights.rs_weight * terms["rs"]
            + weights.aux * terms["aux"]
            + sum(weights[name] * terms[name] for name in extras)
        )
        return distributed.share(value), {name: distributed.share(term) for name, term in terms.items()}

    together = neighbours(config) if extras else 1
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
