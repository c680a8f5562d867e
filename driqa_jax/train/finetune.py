"""Stage 2: human scores teach `E_q`, the interaction and the predictor; `E_d` and `R` stand still."""

import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax import losses, parallel
from driqa_jax.data.pipeline import finetune_batches
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.train import rng
from driqa_jax.train.accumulation import Loss


def view_rule(config: ml_collections.ConfigDict, tiles: int) -> ViewRule:
    """The view of a configuration; training and evaluation may differ in the number of tiles alone."""
    return ViewRule(short=config.view.short, tile=config.view.tile, tiles=tiles)


def as_inputs(batch: dict) -> tuple:
    """uint8 views to what the model takes; float only once on the device."""
    return batch["whole"] / 255.0, batch["valid"], batch["tiles"] / 255.0, batch["tile_boxes"]


def batches(config: ml_collections.ConfigDict, source, start_step: int, process_index: int, process_count: int):
    """The endless stream of this stage, from any step. Raises UserError where a picture has no score."""
    unscored = int((~np.isfinite(source.column("mos"))).sum())
    if unscored:
        raise UserError(f"{source.name}: {unscored} of {len(source)} pictures have no score to learn from")
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
    )


def make_loss(config: ml_collections.ConfigDict, model) -> Loss:
    """`L_mos + w_plcc L_plcc + w_rs L_RS + w_aux L_aux` on the global batch; see docs/METHOD.md."""
    weights = config.loss

    def read(params, batch, step):
        keys = rng.per_example(rng.stream(config.seed, "dropout", step), batch["index"])
        mos, out = model.apply({"params": params}, *as_inputs(batch), keys)
        return {"mos": mos, "aux": out["mos_aux"], "rs_q": out["rs_q"], "rs_d": out["rs_d"]}, {}

    def compare(seen, facts, batch, step):
        del facts, step  # the labels are in the batch
        seen = {name: parallel.gather(value) for name, value in seen.items()}
        label, percentile, dataset = (parallel.gather(batch[key]) for key in ("mos", "percentile", "dataset"))
        rs = losses.RS_LOSSES[weights.rs]
        terms = {
            "mos": losses.mos_l1(seen["mos"], label),
            "plcc": losses.plcc_loss(seen["mos"], label),
            "rs": rs(seen["rs_q"], seen["rs_d"], percentile, dataset, tau=weights.rs_tau, sigma=weights.rs_sigma),
            "aux": losses.mos_l1(seen["aux"], label),
        }
        value = (
            weights.mos * terms["mos"]
            + weights.plcc * terms["plcc"]
            + weights.rs_weight * terms["rs"]
            + weights.aux * terms["aux"]
        )
        return parallel.share(value), {name: parallel.share(term) for name, term in terms.items()}

    return Loss(read, compare)


def example(config: ml_collections.ConfigDict) -> tuple:
    """The smallest inputs of the right ranks, to make parameters with."""
    side = 32
    return (
        jnp.zeros((1, side, side, 3)),
        jnp.full((1, 2), side, jnp.int32),
        jnp.zeros((1, 1, side, side, 3)),
        jnp.asarray([[[0.0, 0.0, 1.0, 1.0]]]),
    )
