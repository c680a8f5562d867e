"""Stage 2 on kept features: the read-outs, the interaction and the predictor learn, all that sees pixels stands still.

The modules, the losses and the checkpoints are those of the stage "finetune", and its checkpoint is a whole model. A
run costs minutes on two CPU cores, which is what a table of ablations over several splits needs. What is given up: the
backbone is ImageNet's, and every picture is seen at the fixed tiles and never mirrored.
"""

import functools
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from driqa_jax import distributed
from driqa_jax.data.pipeline import Order, dataset_codes, labelled
from driqa_jax.data.source import Source
from driqa_jax.errors import UserError
from driqa_jax.models.driqa import build_model
from driqa_jax.train import initialization
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.stages import finetune
from driqa_jax.train.stages.kept_features import KeptFeatures, as_features


def params(config: ml_collections.ConfigDict, model, source: Source) -> dict:
    """Parameters to start from: of `config.init` come `E_d` and `R` alone, whatever else it holds.

    Raises:
      UserError: as `initialization.finetuning_params`, or an ablation that trains what stands still here.
    """
    found = encoders(config)
    kept = KeptFeatures(config, model, found, source)
    rows = initialization.measured_rows(source)
    seen = kept.read(rows)
    return initialization.standardized(found, [(seen["moments"], seen["cells"], seen["valid"])])


def batches(
    config: ml_collections.ConfigDict, source: Source, start_step: int, process_index: int, process_count: int
) -> Iterator[dict[str, np.ndarray]]:
    """The endless stream of this stage, from any step; raises UserError where a picture has no score.

    Example `p` is the picture that `finetune_batches` has at `p`.
    """
    finetune.require_scores(source)
    found = encoders(config)
    kept = KeptFeatures(config, build_model(config.model), found, source)
    order, codes = Order(len(source), config.seed), dataset_codes(source)
    share = config.batch_size // process_count
    step = start_step
    while True:
        first = step * config.batch_size + process_index * share
        places = range(first, first + share)
        rows = [order(place) for place in places]
        labels = [labelled(source, codes, row, place) for row, place in zip(rows, places, strict=True)]
        yield {**kept.read(rows), **{key: np.stack([each[key] for each in labels]) for key in labels[0]}}
        step += 1


def make_loss(config: ml_collections.ConfigDict, model):
    """The loss of the stage "finetune"; raises UserError for an RS loss that wants more than kept features."""

    def look(params, batch, keys):
        return model.apply({"params": params}, as_features(batch), keys, method="from_features")

    return finetune.loss_of(config, look, rs_terms.picked(config, rs_terms.OF_FEATURES))


def predict(config: ml_collections.ConfigDict, model, mesh):
    """run(params, source) -> predicted MOS (N,) float64 and the source's own, in the source's order."""
    forward = jax.jit(
        lambda params, batch: model.apply({"params": params}, as_features(batch), method="from_features")[0]
    )
    size = -(-config.batch_size // mesh.size) * mesh.size

    def run(params, source):
        kept = KeptFeatures(config, model, params, source)
        count, host, hosts = len(source), jax.process_index(), jax.process_count()
        share, found = size // hosts, []
        for start in range(0, count, size):
            # The last batch is filled by repeating the last picture.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            batch = distributed.place_batch(kept.read(rows[host * share : (host + 1) * share]), mesh)
            found.append(distributed.to_host(forward(params, batch))[: count - start])
        return np.concatenate(found).astype(np.float64), source.column("mos").astype(np.float32).astype(np.float64)

    return run


def encoders(config: ml_collections.ConfigDict) -> dict:
    """What stands still, and fresh parameters of the rest. Raises UserError as `params`."""
    return _encoders(ml_collections.FrozenConfigDict(config))


@functools.lru_cache(maxsize=1)
def _encoders(config):
    """As `initialization.encoders`; a run asks twice, since a resumed one asks for the stream alone."""
    # All that is refused is refused now, and not once all features are computed.
    rs_terms.picked(config, rs_terms.OF_FEATURES)
    for name in finetune.EXTRAS:
        if config.loss[name]:
            raise UserError(
                f"config.loss.{name} wants pixels to change, and none are kept; train with config.stage=finetune"
            )
    for name, nothing in (("shrink", 1.0), ("quality", 100)):
        if config.view[name] < nothing:
            raise UserError(
                f"config.view.{name} looks at a photo anew each time, and kept features do not; set it to {nothing}"
            )
    if config.model.restoration == "finetune":
        raise UserError(
            "config.model.restoration='finetune' trains R, and the stage 'heads' keeps what a fixed R sees; "
            "train with config.stage=finetune"
        )
    return initialization.encoders(config, build_model(config.model))
