"""Stage 2 on kept features: the read-outs, the interaction and the predictor learn; the rest is frozen.

Modules, losses and checkpoints are those of the stage "finetune", and a checkpoint holds a whole model. A run takes
minutes on two CPU cores, which makes a table of ablations over several splits affordable. The trade-off: the backbone
stays ImageNet's, and every image is read at fixed tiles and never mirrored.
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
from driqa_jax.train.auxiliary import registry, rs_terms
from driqa_jax.train.stages import finetune
from driqa_jax.train.stages.kept_features import KeptFeatures, as_features


def params(config: ml_collections.ConfigDict, model, source: Source) -> dict:
    """Initial parameters; only `E_d` and `R` are taken from `config.init`.

    Raises:
      UserError: as `initialization.finetuning_params`, or an ablation trains a part that this stage freezes.
    """
    fresh = encoders(config)
    features = KeptFeatures(config, model, fresh, source).read(initialization.measured_rows(source))
    return initialization.standardized(fresh, [(features["moments"], features["cells"], features["valid"])])


def batches(
    config: ml_collections.ConfigDict, source: Source, start_step: int, process_index: int, process_count: int
) -> Iterator[dict[str, np.ndarray]]:
    """The endless stream of batches, from any step, with the images in the order of `finetune_batches`.

    Raises UserError if an image has no score.
    """
    finetune.require_scores(source)
    kept = KeptFeatures(config, build_model(config.model), encoders(config), source)
    order, codes = Order(len(source), config.seed), dataset_codes(source)
    share = config.batch_size // process_count
    step = start_step
    while True:
        first = step * config.batch_size + process_index * share
        positions = range(first, first + share)
        rows = [order(position) for position in positions]
        labels = [labelled(source, codes, row, position) for row, position in zip(rows, positions, strict=True)]
        yield {**kept.read(rows), **{key: np.stack([each[key] for each in labels]) for key in labels[0]}}
        step += 1


def make_loss(config: ml_collections.ConfigDict, model):
    """The loss of the stage "finetune"; raises UserError for an RS loss that needs more than kept features."""

    def look(params, batch, keys):
        return model.apply({"params": params}, as_features(batch), keys, method="from_features")

    return finetune.loss_of(config, look, rs_terms.selected(config, rs_terms.OF_FEATURES))


def predict(config: ml_collections.ConfigDict, model, mesh):
    """(params, source) -> predicted and true MOS, (N,) float64 each, in the source's order."""
    forward = jax.jit(
        lambda params, batch: model.apply({"params": params}, as_features(batch), method="from_features")[0]
    )
    size = -(-config.batch_size // mesh.size) * mesh.size

    def run(params, source):
        kept = KeptFeatures(config, model, params, source)
        count, host, hosts = len(source), jax.process_index(), jax.process_count()
        share, predicted = size // hosts, []
        for start in range(0, count, size):
            # The last image fills the last batch.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            batch = distributed.place_batch(kept.read(rows[host * share : (host + 1) * share]), mesh)
            predicted.append(distributed.to_host(forward(params, batch))[: count - start])
        return np.concatenate(predicted).astype(np.float64), source.column("mos").astype(np.float32).astype(np.float64)

    return run


def encoders(config: ml_collections.ConfigDict) -> dict:
    """Frozen parts and new parameters for the rest. Raises UserError as `params`."""
    return _encoders(ml_collections.FrozenConfigDict(config))


@functools.lru_cache(maxsize=1)
def _encoders(config):
    """As `initialization.encoders`; cached because both `params` and `batches` of a run need it."""
    # Refuse invalid settings before features are computed.
    rs_terms.selected(config, rs_terms.OF_FEATURES)
    for name in registry.AUXILIARY:
        if config.loss[name]:
            raise UserError(
                f"config.loss.{name} needs pixels, but 'heads' keeps features; train with config.stage=finetune"
            )
    for name, unchanged in (("shrink", 1.0), ("quality", 100)):
        if config.view[name] < unchanged:
            raise UserError(
                f"config.view.{name} changes an image at each step, but features are kept once; set it to {unchanged}"
            )
    if config.model.restoration == "finetune":
        raise UserError(
            "config.model.restoration='finetune' trains R, but the stage 'heads' keeps the features of a fixed R; "
            "train with config.stage=finetune"
        )
    return initialization.encoders(config, build_model(config.model))
