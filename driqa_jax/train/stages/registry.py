"""The stages that the loop can run, and the validation of each."""

import functools
import itertools
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from driqa_jax import degradations
from driqa_jax.data.pipeline import Place, pretrain_batches
from driqa_jax.evaluation.correlations import plcc, srcc
from driqa_jax.models.driqa import DRIQA
from driqa_jax.train import initialization
from driqa_jax.train.stages import finetune, frozen_features, pretrain

VALIDATION_BATCHES, BATCH = 8, 16  # of the validation of a pretraining
AGREEMENT = {"val_srcc": srcc, "val_plcc": plcc, "val_mae": lambda predicted, mos: np.abs(predicted - mos).mean()}


class Stage(NamedTuple):
    """A stage of the training.

    params: (config, model, source) -> nested initial parameters.
    batches: (config, source, start_step, process_index, process_count) -> endless iterator of batches.
    make_loss: (config, model) -> the loss, a `step.Loss`.
    validate: (config, model, mesh) -> (params, source) -> metrics by name.
    predict: (config, model, mesh) -> (params, source) -> predicted and true MOS, (N,) float64 each, in the source's
      order; None for a stage that predicts no MOS.
    """

    params: Callable
    batches: Callable
    make_loss: Callable
    validate: Callable
    predict: Callable | None = None


def agreement(
    predict: Callable, config: ConfigDict, model: DRIQA, mesh: jax.sharding.Mesh
) -> Callable[..., dict[str, float]]:
    """SRCC, PLCC and mean absolute error (MOS, 0 to 1) of `predict`, see `Stage`, on the whole validation fold.

    Of several data sets, the mean over them, and the values of each with its name.
    """
    run = predict(config, model, mesh)

    def measure(params, source):
        predicted, mos = run(params, source)
        means, values, names = {}, {}, source.column("dataset")
        parts = {f"_{name}": (predicted[names == name], mos[names == name]) for name in dict.fromkeys(names.tolist())}
        for key, metric in AGREEMENT.items():
            found = {key + name: float("nan" if (x := metric(*part)) is None else x) for name, part in parts.items()}
            means[key] = float(np.mean([*found.values()]))
            values |= found
        return means | (values if len(parts) > 1 else {})

    return measure


def pretraining(config: ConfigDict, model: DRIQA, mesh: jax.sharding.Mesh) -> Callable[..., dict[str, float]]:
    """Validation of a pretraining on held-out photos with fixed chains.

    `val_psnr_gain`: PSNR gained by restoring, in dB. `val_naming`: share of degraded images whose most probable type
    is present. `val_severity_error`: mean absolute error. `val_clean`: share of clean images for which no type reaches
    probability 0.5. `val_clean_psnr`: PSNR of restored clean images, in dB.
    """
    del mesh  # a few small batches, divided among the hosts, each on one device
    look = jax.jit(functools.partial(_per_image, config, model))

    def measure(params, source):
        params = jax.tree.map(np.asarray, params)
        data = config.data
        stream = pretrain_batches(source, config.pretrain.crop, BATCH, 0, data.halve, Place(threads=data.threads))
        host, hosts = jax.process_index(), jax.process_count()
        rounds = -(-VALIDATION_BATCHES // hosts)
        # Steps beyond those of any run, so that validation draws other chains.
        batches = [
            jax.tree.map(np.asarray, look(params, batch["photo"], batch["index"], 2**30 + number))
            for number, batch in itertools.islice(enumerate(stream), host, rounds * hosts, hosts)
        ]
        values = {name: _all_hosts([batch[name] for batch in batches]) for name in batches[0]}
        degraded = values["degraded"]
        gain = 10 * np.log10((values["before"] + 1e-8) / (values["after"] + 1e-8))
        result = {
            "val_psnr_gain": gain[degraded].mean(),
            "val_naming": values["top"][degraded].mean(),
            "val_severity_error": values["severity_error"][degraded].mean(),
        }
        if not degraded.all():
            result["val_clean"] = values["none_detected"][~degraded].mean()
            result["val_clean_psnr"] = (-10 * np.log10(values["after"][~degraded] + 1e-8)).mean()
        return {name: float(value) for name, value in result.items()}

    return measure


def _per_image(config, model, params, photo, index, step):
    """Measurements of the degraded images of a batch of photos (B, S, S, 3) uint8, (M,) each."""
    photos = photo / 255.0
    images, chains, _ = pretrain.degrade(config, photos, index, step)
    blocks, _, width = images.shape[:3]
    flat = images.reshape(-1, *photos.shape[1:])
    encoded = model.apply({"params": params}, flat, method="encode_degradation")
    restored = model.apply({"params": params}, flat, encoded.vector, method="restore")
    clean = photos.reshape(blocks, 1, width, *photos.shape[1:])
    clean = jnp.broadcast_to(clean, images.shape).reshape(flat.shape)
    present, severity = (
        jnp.repeat(x, width, axis=1).reshape(flat.shape[0], -1) for x in jax.vmap(degradations.labels)(chains)
    )

    def mean_squared_error(x):
        return jnp.square(jnp.clip(x, 0.0, 1.0) - clean).mean(axis=(1, 2, 3))

    error = jnp.abs(encoded.severity - severity) * present
    return {
        "degraded": present.max(axis=1) > 0,
        "before": mean_squared_error(flat),
        "after": mean_squared_error(restored),
        "top": jnp.take_along_axis(present, encoded.logits.argmax(axis=1)[:, None], axis=1)[:, 0],
        "none_detected": (encoded.logits < 0).all(axis=1),
        "severity_error": error.sum(axis=1) / jnp.maximum(present.sum(axis=1), 1.0),
    }


def _all_hosts(parts: list[np.ndarray]) -> np.ndarray:
    """The measurements of all hosts, which take turns at the batches, in the order of the batches."""
    by_host = multihost_utils.process_allgather(np.stack(parts), tiled=False)
    in_order = np.swapaxes(by_host, 0, 1).reshape(-1, *by_host.shape[2:])[:VALIDATION_BATCHES]
    return in_order.reshape(-1, *in_order.shape[2:])


def _with_scores(params: Callable, stage: types.ModuleType) -> Stage:
    """The stage of a module that predicts MOS."""
    validate = functools.partial(agreement, stage.predict)
    return Stage(params, stage.batches, stage.make_loss, validate, stage.predict)


STAGES = {
    "pretrain": Stage(initialization.pretraining_params, pretrain.batches, pretrain.make_loss, pretraining),
    "finetune": _with_scores(initialization.finetuning_params, finetune),
    "heads": _with_scores(frozen_features.params, frozen_features),
}
