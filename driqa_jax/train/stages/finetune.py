"""Stage 2: `E_q`, the interaction and the predictor learn human scores; `E_d` and `R` are frozen."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from driqa_jax import distributed, losses
from driqa_jax.data.perturbed_pairs import FINEST
from driqa_jax.data.pipeline import Batch, Place, evaluation_batches, finetune_batches
from driqa_jax.data.source import Source
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError, user_errors
from driqa_jax.models.ablations import chosen
from driqa_jax.models.driqa import DRIQA
from driqa_jax.train import rng
from driqa_jax.train.auxiliary import consistency, registry, rs_terms
from driqa_jax.train.step import Loss

INPUTS = ("whole", "valid", "tiles", "tile_boxes", "index")


def view_rule(config: ConfigDict, tiles: int) -> ViewRule:
    """The view rule of a configuration with this many tiles. Raises UserError for an invalid one."""
    tile = config.view.tile
    canvases = {"canvases": ((tile, tile),)} if config.view.kind == "crop" else {}
    with user_errors("config.view: {}"):
        return ViewRule(short=config.view.short, tile=tile, tiles=tiles, kind=config.view.kind, **canvases)


def as_inputs(batch: dict) -> tuple:
    """uint8 views to the inputs of the model; the conversion to float happens on the device."""
    return batch["whole"] / 255.0, batch["valid"], batch["tiles"] / 255.0, batch["tile_boxes"]


def batches(config: ConfigDict, source: Source, *place: int) -> Iterator[Batch]:
    """The endless stream of batches; `place`: start_step, process_index, process_count.

    Raises UserError for an invalid `config.view.shrink` or `quality`, or if an image has no score.
    """
    if not 0.0 < config.view.shrink <= 1.0:
        raise UserError(f"config.view.shrink must be above 0 and at most 1, got {config.view.shrink}")
    quality = config.view.quality
    if not 1 <= quality <= FINEST and quality != 100:
        raise UserError(f"config.view.quality must be 1 to {FINEST}, or 100 to encode nothing, got {quality}")
    require_scores(source)
    rule, canvas = view_rule(config, config.view.tiles), tuple(config.view.canvas)
    changes = {"shrink": config.view.shrink, "quality": quality, "twins": consistency.configured_twins(config)}
    where = Place(*place, config.data.threads)
    return finetune_batches(source, rule, canvas, config.batch_size, config.seed, place=where, **changes)


def require_scores(source: Source) -> None:
    """Raises UserError if an image of the source has no score."""
    unscored = int((~np.isfinite(source.column("mos"))).sum())
    if unscored:
        raise UserError(f"{source.name}: {unscored} of {len(source)} images have no score to learn from")


def make_loss(config: ConfigDict, model: DRIQA) -> Loss:
    """`L_mos`, and by their weights `L_plcc, L_RS, L_aux, L_rank, L_same`, on the global batch; see docs/METHOD.md.

    Raises UserError for an RS loss that this stage does not support, or an invalid setting of an auxiliary loss.
    """
    for auxiliary in registry.active(config).values():
        auxiliary.require_valid(config)

    def look(params, batch, keys):
        return model.apply({"params": params}, *as_inputs(batch), keys)

    return loss_of(config, look, rs_terms.selected(config, rs_terms.OF_SCORES), view_rule(config, config.view.tiles))


def loss_of(config: ConfigDict, look: Callable, rs_term: rs_terms.RSTerm, rule: ViewRule | None = None) -> Loss:
    """The loss of scores for any model.

    Args:
      look: (params, batch, keys) -> (mos, out), the model.
      rule: the rule of the batch's views; None if it has none, and then no auxiliary loss applies.
    """
    weights = config.loss
    auxiliary = registry.active(config) if rule is not None else {}

    def read(params, batch, step):
        stream = rng.stream(config.seed, "dropout", step)
        # One call for all images: a second call would compile the model twice.
        made = {name: loss.views(config, rule, batch, step) for name, loss in auxiliary.items()}
        counts = [batch["index"].shape[0], *(views["index"].shape[0] for views in made.values())]
        inputs = batch
        if made:
            inputs = {name: jnp.concatenate([batch[name], *(x[name] for x in made.values())]) for name in INPUTS}
        keys = rng.per_example(stream, inputs["index"])
        mos, out = look(params, inputs, keys)
        out = jax.tree.map(lambda x: x[: x.shape[0] * counts[0] // sum(counts)], out)
        mos, *others = jnp.split(mos, np.cumsum(counts)[:-1])
        scores = {name: auxiliary[name].read(config, mos, x) for name, x in zip(made, others, strict=True)}
        compared = rs_term.read(batch, out, lambda other: look(params, other, keys[: counts[0]])[1])
        return {"mos": mos, "aux": out["mos_aux"], **compared, **scores}, {}

    def compare(readings, facts, batch, step):
        del facts, step  # the labels are in the batch
        readings = jax.tree.map(distributed.gather, readings)
        label, percentile, dataset = (distributed.gather(batch[key]) for key in ("mos", "percentile", "dataset"))
        terms = {
            "mos": losses.mos_l1(readings["mos"], label),
            "plcc": losses.plcc_loss(readings["mos"], label, dataset if len(config.data.sources) > 1 else None),
            "rs": rs_term.compare(weights, readings, percentile, dataset),
            "aux": losses.mos_l1(readings["aux"], label),
        }
        terms |= {name: loss.compare(*readings[name]) for name, loss in auxiliary.items()}
        value = (
            weights.mos * terms["mos"]
            + weights.plcc * terms["plcc"]
            + weights.rs_weight * terms["rs"]
            + weights.aux * terms["aux"]
            + sum(weights[name] * terms[name] for name in auxiliary)
        )
        return distributed.share(value), {name: distributed.share(term) for name, term in terms.items()}

    shuffled = chosen(config.model)["degradation"] == "shuffled"
    return Loss(
        read,
        compare,
        0 if shuffled else registry.read_group_size(config) if auxiliary else 1,
        "with config.model.degradation='shuffled' an image gets the degradation of another one half a batch away; set "
        "accumulate to 1",
    )


def predict(config: ConfigDict, model: DRIQA, mesh: jax.sharding.Mesh) -> Callable:
    """(params, source) -> predicted and true MOS, (N,) float64 each, in the source's order."""
    rule = view_rule(config, config.view.eval_tiles)
    forward = jax.jit(lambda params, batch: model.apply({"params": params}, *as_inputs(batch))[0])
    size = -(-config.batch_size // mesh.size) * mesh.size

    def run(params, source):
        outputs = []
        place = Place(0, jax.process_index(), jax.process_count(), config.data.threads)
        for batch in evaluation_batches(source, rule, tuple(config.view.canvas), size, place):
            placed = distributed.place_batch(batch, mesh)
            outputs.append([*map(distributed.to_host, (forward(params, placed), placed["mos"], placed["real"]))])
        mos, label, real = map(np.concatenate, zip(*outputs, strict=True))
        return mos[real > 0].astype(np.float64), label[real > 0].astype(np.float64)

    return run
