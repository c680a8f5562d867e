"""Where a run's parameters start."""

import itertools
import pathlib
import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.checkpoints.state import flatten, merge
from driqa_jax.data.pipeline import evaluation_batches, pretrain_batches
from driqa_jax.data.source import Subset
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import chosen
from driqa_jax.models.driqa import OLDER
from driqa_jax.models.efficientnet import imagenet_weights
from driqa_jax.models.pretrained import WHERE, read_vit
from driqa_jax.models.quality_encoder import STRIDE
from driqa_jax.models.signal_statistics import signal_statistics
from driqa_jax.models.vit import ViT
from driqa_jax.train import rng
from driqa_jax.train.stages import finetune, pretrain

PRETRAINED = {"degradation_encoder", "restoration"}
# Ablations that leave a pretrained part as it is drawn.
DRAWN = {("restoration", "random_frozen"): "restoration", ("degradation", "no_pretrain"): "degradation_encoder"}
# Ablations that a pretrained `R` must share with the model that reads it.
FORM = ("condition", "inject")
MEASURED_PHOTOS = 192


def with_model(config: ml_collections.ConfigDict, known: Mapping | None = None) -> ml_collections.FrozenConfigDict:
    """The configuration with what the parameters that a run starts from settle of the model.

    `model.types` is what the configuration gives, else that of `known`, else that of `init`, else the whole bank;
    what E_d and R read (`OLDER`) that of `known`, else that of `init`, else what the configuration gives.

    Args:
      known: the model's part of the configuration that a checkpoint was saved with.

    Raises:
      UserError: `init` cannot be loaded, or a pretraining asks for other types than those that label its pictures.
    """
    filled = ml_collections.ConfigDict(config.to_dict())
    if known is None and config.init:
        metadata = load(config.init, config.model.variant)[1]
        known = {**model_config(metadata), "types": metadata["degradations"]}
    if known is not None:
        filled.model.types = tuple(config.model.types) or tuple(known["types"])
        filled.model.update({key: known.get(key, value) for key, value in OLDER.items()})
    filled.model.types = tuple(filled.model.types) or NAMES
    if config.stage == "pretrain" and filled.model.types != NAMES:
        given = config.init or "model.types"
        raise UserError(f"pretraining names the {len(NAMES)} types of the bank; {given} has others")
    return ml_collections.FrozenConfigDict(filled)


def pretraining_params(config: ml_collections.ConfigDict, model, source) -> dict:
    """Fresh `E_d` and `R`, or those of `config.init`; `E_d` alone where an ablation gives `R` another form than its.

    The constants that standardise the statistics of fresh ones are measured on degraded photos of `source`.

    Raises:
      UserError: `config.init` names nothing that can be loaded, or there is a `config.backbone`.
    """
    if config.backbone:
        raise UserError("config.backbone is for stage 2; a pretraining has no quality encoder")
    if config.init:
        given, metadata = load(config.init, config.model.variant)
        found, wanted = chosen(model_config(metadata)), chosen(config.model)
        other = any(found[key] != wanted[key] for key in FORM)
        drawn = fresh_pretraining_params(config, model) if other else given
        return {"degradation_encoder": given["degradation_encoder"], "restoration": drawn["restoration"]}
    params = fresh_pretraining_params(config, model)
    if "standardize_statistics" not in params["degradation_encoder"]:
        return params
    data = config.data
    photos = pretrain_batches(
        source, config.pretrain.crop, config.batch_size, config.seed, halve=data.halve, threads=data.threads
    )

    @jax.jit
    def look(photo, index, number):
        pictures, *_ = pretrain.degrade(config, photo / 255.0, index, number)
        return signal_statistics(pictures.reshape(-1, *photo.shape[1:]))

    totals = None
    for number, batch in enumerate(itertools.islice(photos, -(-MEASURED_PHOTOS // config.batch_size))):
        # Steps past any run's own, as in the validation.
        sums = _sums(look(batch["photo"], batch["index"], 2**29 + number))
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    return _with_constants(params, {"degradation_encoder/standardize_statistics": totals})


def fresh_pretraining_params(config: ml_collections.ConfigDict, model) -> dict:
    """Drawn `E_d` and `R`, their constants not measured."""
    side = 32
    key = rng.stream(config.seed, "init")
    return jax.jit(lambda: model.init(key, jnp.zeros((1, side, side, 3)), method="pretraining"))()["params"]


def finetuning_params(config: ml_collections.ConfigDict, model, source) -> dict:
    """Parameters for stage 2.

    A whole model comes as it is, where its ablations are the configuration's. Of any other, and of a pretraining run,
    come `E_d` and `R`; the backbone then starts from its public weights, and the constants that standardise its
    features are measured on photos of `source`.

    Raises:
      UserError: `config.init` names nothing that can be loaded, or its `R` has another form; or `config.backbone`
        names nothing that can be loaded, or is of no use.
    """
    given, metadata = load(config.init, config.model.variant) if config.init else ({}, {})
    if set(given) - PRETRAINED and chosen(model_config(metadata)) == chosen(config.model):
        if config.backbone:
            raise UserError(f"{config.init} holds a whole model, its backbone too; config.backbone has no place")
        return given
    params = encoders(config, model)
    return standardized(params, views_of(config, model, params, source))


def encoders(config: ml_collections.ConfigDict, model) -> dict:
    """Parameters for stage 2 but for the standardising constants: they follow from the configuration alone.

    `E_d` and `R` are those of `config.init`, unless an ablation leaves them as they are drawn. Drawn, they are the same
    whatever the seed: they stand still, and what they see of a picture is then computed once for all seeds. The
    constants of a drawn `E_d` are those of `init`'s all the same: they were measured, not learned.

    Raises:
      UserError: as `finetuning_params`.
    """
    switches = chosen(config.model)
    draw = jax.jit(lambda key: model.init(key, *finetune.example(config))["params"])
    params = draw(rng.stream(config.seed, "init"))
    fixed = draw(rng.stream(0, "init")) if config.seed else params
    params.update({name: fixed[name] for name in PRETRAINED})
    if switches["quality"] == "full":
        public = _backbone_weights(config, model.quality_encoder.backbone)
        params["quality_encoder"]["backbone"] = public or fixed["quality_encoder"]["backbone"]
    if config.init:
        given, metadata = load(config.init, config.model.variant)
        drawn = {DRAWN.get(switch) for switch in switches.items()}
        adopted = PRETRAINED - drawn
        if "restoration" in adopted:
            _require_same_form(config, switches, chosen(model_config(metadata)))
        measured = {k: v for k, v in given["degradation_encoder"].items() if k.startswith("standardize_")}
        params["degradation_encoder"] = {**params["degradation_encoder"], **measured}
        params.update({name: given[name] for name in adopted})
    return params


def _require_same_form(config, wanted, found):
    for key in FORM:
        if wanted[key] != found[key]:
            raise UserError(
                f"{config.init}: its R was trained with model.{key}={found[key]}, and config.model.{key} is "
                f"{wanted[key]}; pretrain another with --config.model.{key}={wanted[key]}"
            )


def model_config(metadata: dict) -> dict:
    """The model's configuration in what `load` gives: older weights hold a training's whole one."""
    return metadata["config"].get("model", metadata["config"])


def load(name: str, variant: str | None = None) -> tuple[dict, dict]:
    """Parameters and metadata of a bundled model, a weights file or a run's workdir, of this variant or (None) any.

    Raises:
      UserError: there is no such thing, or it is of another variant.
    """
    if pathlib.Path(name).is_dir():
        from driqa_jax.checkpoints.manager import load_for_scoring

        params, metadata = load_for_scoring(name)
    else:
        from driqa_jax.checkpoints.weights import bundled, load_weights

        params, metadata = load_weights(name if pathlib.Path(name).is_file() else bundled(name), variant)
    if variant and metadata["variant"] != variant:
        raise UserError(f"{name} holds a model of variant {metadata['variant']!r}; model.variant is {variant!r}")
    return params, metadata


def _backbone_weights(config, backbone):
    """Public weights of the backbone, or {} where a ViT has no file to start from."""
    if not isinstance(backbone, ViT):
        if config.backbone:
            raise UserError(
                f"config.backbone={config.backbone}: the variant {config.model.variant!r} has its backbone from an "
                "installed package; leave the key out"
            )
        return imagenet_weights()[0]
    if config.backbone:
        return read_vit(config.backbone, backbone)
    print(
        f"variant {config.model.variant!r}: no config.backbone, so the ViT starts from random numbers and learns "
        f"little from a small set; {WHERE}",
        file=sys.stderr,
    )
    return {}


def measured_rows(source) -> np.ndarray:
    """The rows whose features are measured: spread over the set, since a set is often sorted by subset."""
    return np.unique(np.linspace(0, len(source) - 1, MEASURED_PHOTOS).astype(int))


def views_of(config: ml_collections.ConfigDict, model, params: dict, source):
    """Moments (B, F), cells (B, h, w, F') and valid (B, 2) of the measured photos, batch by batch."""
    photos = evaluation_batches(
        Subset(source, measured_rows(source), "measured"), finetune.view_rule(config, 1), tuple(config.view.canvas), 8
    )

    @jax.jit
    def look(params, batch):
        return model.apply({"params": params}, *finetune.as_inputs(batch)[:2], method="look_at_quality")

    for batch in photos:
        kept = batch["real"] > 0
        found = look(params, batch)
        yield *(np.asarray(x)[kept] for x in found), batch["valid"][kept]


def standardized(params: dict, features) -> dict:
    """Parameters with the mean and deviation of every feature of the backbone set as its standardising constants.

    `features`: moments, cells and valid of some photos, in batches, as `views_of` gives them.
    """
    totals = None
    for moments, cells, valid in features:
        grid = cells.shape[1:3]
        rows, cols = (np.arange(side)[None, :] < valid[:, i : i + 1] // STRIDE for i, side in enumerate(grid))
        inside = cells[rows[:, :, None] & cols[:, None, :]]
        sums = {
            "quality_encoder/standardize_vector": _sums(moments),
            "quality_encoder/standardize_tokens": _sums(inside),
        }
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    return _with_constants(params, totals)


def _sums(x):
    """Count, sum and sum of squares over rows, in float64."""
    x = np.asarray(x, np.float64)
    return len(x), x.sum(axis=0), np.square(x).sum(axis=0)


def _with_constants(params, totals):
    """Parameters with the constants of the standardising layers, by path, that sums over rows give."""
    flat = flatten(params)
    for module, (count, first, second) in totals.items():
        mean = first / count
        deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
        flat[f"{module}/shift"] = mean.astype(np.float32)
        flat[f"{module}/scale"] = (1.0 / (deviation + 1e-3)).astype(np.float32)
    return merge(flat)
