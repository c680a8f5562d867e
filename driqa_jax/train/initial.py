"""Where a run's parameters start."""

import itertools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.data.pipeline import evaluation_batches, pretrain_batches
from driqa_jax.data.sources import Subset
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models.efficientnet import imagenet_weights
from driqa_jax.models.quality_encoder import STRIDE
from driqa_jax.models.switches import chosen
from driqa_jax.train import finetune, pretrain, rng
from driqa_jax.train.state import flatten, merge

PRETRAINED = {"degradation_encoder", "restoration"}
# Ablations that leave a pretrained part as it is drawn.
DRAWN = {("restoration", "random_frozen"): "restoration", ("degradation", "no_pretrain"): "degradation_encoder"}
MEASURED_PHOTOS = 192


def with_model(config: ml_collections.ConfigDict, known: Mapping | None = None) -> ml_collections.FrozenConfigDict:
    """The configuration with what the parameters that a run starts from settle of the model.

    `model.types` is what the configuration gives, else that of `known`, else that of `init`, else the whole bank;
    `model.statistics` that of `known`, else that of `init`, else what the configuration gives.

    Args:
      known: the model's part of the configuration that a checkpoint was saved with.

    Raises:
      UserError: `init` cannot be loaded, or a pretraining asks for other types than those that label its pictures.
    """
    filled = ml_collections.ConfigDict(config.to_dict())
    if known is None and config.init:
        metadata = load(config.init, config.model.variant)[1]
        known = {**metadata["config"], "types": metadata["degradations"]}
    if known is not None:
        filled.model.types = tuple(config.model.types) or tuple(known["types"])
        filled.model.statistics = known.get("statistics", False)
    filled.model.types = tuple(filled.model.types) or NAMES
    if config.stage == "pretrain" and filled.model.types != NAMES:
        given = config.init or "model.types"
        raise UserError(f"pretraining names the {len(NAMES)} types of the bank; {given} has others")
    return ml_collections.FrozenConfigDict(filled)


def pretraining_params(config: ml_collections.ConfigDict, model, source) -> dict:
    """Fresh `E_d` and `R`, or those of `config.init`.

    The constants that standardise the statistics of fresh ones are measured on degraded photos of `source`.

    Raises:
      UserError: `config.init` names nothing that can be loaded.
    """
    if config.init:
        given, metadata = load(config.init, config.model.variant)
        _require_same_form(config, chosen(config.model), chosen(model_config(metadata)))
        return {name: given[name] for name in sorted(PRETRAINED)}
    params = fresh_pretraining_params(config, model)
    data = config.data
    photos = pretrain_batches(
        source, config.pretrain.crop, config.batch_size, config.seed, halve=data.halve, threads=data.threads
    )
    batches = itertools.islice(enumerate(photos), -(-MEASURED_PHOTOS // config.batch_size))

    @jax.jit
    def observe(params, photo, index, number):
        pictures, *_ = pretrain.degrade(config, photo / 255.0, index, number)
        pictures = pictures.reshape(-1, *photo.shape[1:])
        return _degradation_sums(model, params, pictures, jnp.ones(pictures.shape[0]))

    # Steps past any run's own, as in the validation.
    sums = (observe(params, batch["photo"], batch["index"], 2**29 + number) for number, batch in batches)
    return _standardized(params, sums)


def fresh_pretraining_params(config: ml_collections.ConfigDict, model) -> dict:
    """Drawn `E_d` and `R`, their constants not measured."""
    side = 32
    key = rng.stream(config.seed, "init")
    return jax.jit(lambda: model.init(key, jnp.zeros((1, side, side, 3)), method="pretraining"))()["params"]


def finetuning_params(config: ml_collections.ConfigDict, model, source) -> dict:
    """Parameters for stage 2.

    A whole model comes as it is, where its ablations are the configuration's. Else see `encoders`; the constants that
    standardise the backbone's features are measured on photos of `source`.

    Raises:
      UserError: `config.init` names nothing that can be loaded, or its `R` has another form.
    """
    given, metadata = load(config.init, config.model.variant) if config.init else ({}, {})
    if set(given) - PRETRAINED and chosen(model_config(metadata)) == chosen(config.model):
        return given
    params = encoders(config, model, source)

    @jax.jit
    def observe(params, batch):
        whole, valid, *_ = finetune.as_inputs(batch)
        return _quality_sums(model, params, whole, valid, batch["real"])

    return _standardized(params, (observe(params, batch) for batch in _measured_views(config, source)))


def encoders(config: ml_collections.ConfigDict, model, source) -> dict:
    """Parameters for stage 2 but for the constants that standardise the backbone's features.

    `E_d` and `R` are those of `config.init`, unless an ablation leaves them as they are drawn; the backbone is that of
    ImageNet. What is drawn of `E_d` and `R` is the same whatever the seed: they stand still, and what they see of a
    picture is then computed once for all seeds. The constants of a drawn `E_d` are those of `init`'s, too, and without
    one they are measured on photos of `source`.

    Raises:
      UserError: as `finetuning_params`.
    """
    switches = chosen(config.model)
    draw = jax.jit(lambda key: model.init(key, *finetune.example(config))["params"])
    params = draw(rng.stream(config.seed, "init"))
    fixed = draw(rng.stream(0, "init")) if config.seed else params
    params.update({name: fixed[name] for name in PRETRAINED})
    if switches["quality"] == "full":
        params["quality_encoder"]["backbone"] = imagenet_weights()[0]
    if not config.init:

        @jax.jit
        def observe(params, batch):
            return _degradation_sums(model, params, finetune.as_inputs(batch)[2][:, 0], batch["real"])

        return _standardized(params, (observe(params, batch) for batch in _measured_views(config, source)))
    given, metadata = load(config.init, config.model.variant)
    adopted = PRETRAINED - {DRAWN.get(switch) for switch in switches.items()}
    if "restoration" in adopted:
        _require_same_form(config, switches, chosen(model_config(metadata)))
    measured = {k: v for k, v in given["degradation_encoder"].items() if k.startswith("standardize_")}
    params["degradation_encoder"] = {**params["degradation_encoder"], **measured}
    return {**params, **{name: given[name] for name in adopted}}


def measured_rows(source) -> np.ndarray:
    """The rows whose features are measured: spread over the set, since a set is often sorted by subset."""
    return np.unique(np.linspace(0, len(source) - 1, MEASURED_PHOTOS).astype(int))


def standardized_on(params: dict, moments: np.ndarray, cells: np.ndarray, valid: np.ndarray) -> dict:
    """Parameters with the constants that standardise the backbone's features measured on these, see `Features`."""
    rows, cols = (np.arange(side)[None, :] < valid[:, i, None] // STRIDE for i, side in enumerate(cells.shape[1:3]))
    inside = (rows[:, :, None] & cols[:, None, :]).reshape(-1, 1)
    kept = {"quality_encoder": {"standardize_vector": {"input": (moments,)}, "standardize_tokens": {"input": (cells,)}}}
    every = np.ones((len(moments), 1))
    return _standardized(params, [_sums(kept, {"standardize_vector": every, "standardize_tokens": inside})])


def _measured_views(config, source):
    """Views of the measured photos, batch by batch."""
    part = Subset(source, measured_rows(source), "measured")
    return evaluation_batches(part, finetune.view_rule(config, 1), tuple(config.view.canvas), batch_size=8)


def _require_same_form(config, wanted, found):
    for key in ("condition", "inject"):
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
        from driqa_jax.train.checkpoint import load_for_scoring

        params, metadata = load_for_scoring(name)
    else:
        from driqa_jax.scoring.weights import bundled, load_weights

        params, metadata = load_weights(name if pathlib.Path(name).is_file() else bundled(name), variant)
    if variant and metadata["variant"] != variant:
        raise UserError(f"{name} holds a model of variant {metadata['variant']!r}; model.variant is {variant!r}")
    return params, metadata


def _quality_sums(model, params, whole, valid, real):
    """Sums of what `E_q` standardises, over the pictures that are real and, of cells, lie inside them."""

    def encode(module, whole, valid):
        return module.quality_encoder(whole, valid)

    quality, kept = model.apply({"params": params}, whole, valid, method=encode, mutable=["statistics"])
    inside = quality.mask[..., None] & (real > 0)[:, None, None]
    return _sums(kept["statistics"], {"standardize_vector": real[:, None], "standardize_tokens": inside.reshape(-1, 1)})


def _degradation_sums(model, params, tiles, real):
    """Sums of what `E_d` standardises, over the tiles that are real; none where it does not."""
    _, kept = model.apply({"params": params}, tiles, method="encode_degradation", mutable=["statistics"])
    return _sums(kept.get("statistics", {}), {"standardize_statistics": real[:, None]})


def _sums(kept, weights):
    """Of every standardised input, by path: count, sum and sum of squares over its rows, weighted."""
    found = {}
    for path, (x,) in flatten(kept).items():
        module = path.removesuffix("/input")
        x = x.reshape(-1, x.shape[-1])
        weight = weights[module.rpartition("/")[2]].astype(x.dtype)
        found[module] = weight.sum(), (x * weight).sum(axis=0), (jnp.square(x) * weight).sum(axis=0)
    return found


def _standardized(params, sums):
    """Mean and deviation of every feature that is standardised, from the sums of batches, become its constants."""
    totals = None
    for each in sums:
        each = jax.tree.map(lambda x: np.asarray(x, np.float64), each)
        totals = each if totals is None else jax.tree.map(np.add, totals, each)
    flat = flatten(params)
    for module, (count, first, second) in totals.items():
        mean = first / count
        deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
        flat[f"{module}/shift"] = mean.astype(np.float32)
        flat[f"{module}/scale"] = (1.0 / (deviation + 1e-3)).astype(np.float32)
    return merge(flat)
