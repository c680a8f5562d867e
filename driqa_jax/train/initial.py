"""Where a run's parameters start."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.data.pipeline import evaluation_batches
from driqa_jax.data.sources import Subset
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models.efficientnet import imagenet_weights
from driqa_jax.models.vit import ViT
from driqa_jax.models.vit_files import WHERE, read_vit
from driqa_jax.train import finetune, rng
from driqa_jax.train.state import flatten, merge

PRETRAINED = {"degradation_encoder", "restoration"}
MEASURED_PHOTOS = 192


def with_types(config: ml_collections.ConfigDict, known=()) -> ml_collections.FrozenConfigDict:
    """The configuration with `model.types` filled in: what it gives, else `known`, else `init`'s, else the whole bank.

    Raises:
      UserError: `init` cannot be loaded, or a pretraining asks for other types than those that label its pictures.
    """
    types = tuple(config.model.types) or tuple(known)
    if not types and config.init:
        types = tuple(load(config.init, config.model.variant)[1]["degradations"])
    types = types or NAMES
    if config.stage == "pretrain" and types != NAMES:
        given = config.init or "model.types"
        raise UserError(f"pretraining names the {len(NAMES)} types of the bank; {given} has others")
    filled = ml_collections.ConfigDict(config.to_dict())
    filled.model.types = types
    return ml_collections.FrozenConfigDict(filled)


def pretraining_params(config: ml_collections.ConfigDict, model) -> dict:
    """Fresh `E_d` and `R`, or those of `config.init`.

    Raises:
      UserError: `config.init` names nothing that can be loaded, or there is a `config.backbone`.
    """
    if config.backbone:
        raise UserError("config.backbone is for stage 2; a pretraining has no quality encoder")
    if config.init:
        given = load(config.init, config.model.variant)[0]
        return {name: given[name] for name in sorted(PRETRAINED)}
    side = 32
    key = rng.stream(config.seed, "init")
    return jax.jit(lambda: model.init(key, jnp.zeros((1, side, side, 3)), method="pretraining"))()["params"]


def finetuning_params(config: ml_collections.ConfigDict, model, source) -> dict:
    """Parameters for stage 2.

    A whole model comes as it is. A pretraining run gives `E_d` and `R`; the backbone then starts from its public
    weights, and the constants that standardise its features are measured on photos of `source`.

    Raises:
      UserError: `config.init` or `config.backbone` names nothing that can be loaded, or the latter is of no use.
    """
    given = load(config.init, config.model.variant)[0] if config.init else {}
    if set(given) - PRETRAINED:
        if config.backbone:
            raise UserError(f"{config.init} holds a whole model, its backbone too; config.backbone has no place")
        return given
    weights = _backbone_weights(config, model.quality_encoder.backbone)
    key = rng.stream(config.seed, "init")
    params = jax.jit(lambda: model.init(key, *finetune.example(config)))()["params"]
    params["quality_encoder"]["backbone"] = weights or params["quality_encoder"]["backbone"]
    params.update(given)
    return _standardized(config, model, params, source)


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


def _standardized(config, model, params, source):
    """Measure mean and deviation of every feature that is standardised, and set the constants."""
    # Spread over the set, since a set is often sorted by subset.
    rows = np.unique(np.linspace(0, len(source) - 1, MEASURED_PHOTOS).astype(int))
    batch_size = 8
    photos = evaluation_batches(
        Subset(source, rows, "measured"), finetune.view_rule(config, 1), tuple(config.view.canvas), batch_size
    )

    @jax.jit
    def observe(params, batch):
        def encode(module, whole, valid):
            return module.quality_encoder(whole, valid)

        whole, valid, *_ = finetune.as_inputs(batch)
        quality, kept = model.apply({"params": params}, whole, valid, method=encode, mutable=["statistics"])
        seen = kept["statistics"]["quality_encoder"]
        vector, tokens = seen["standardize_vector"]["input"][0], seen["standardize_tokens"]["input"][0]
        inside = quality.mask[..., None] & (batch["real"] > 0)[:, None, None]
        whole_vector = jnp.ones_like(vector[:, :1]) * batch["real"][:, None]
        return {
            "standardize_vector": _sums(vector, whole_vector),
            "standardize_tokens": _sums(tokens.reshape(-1, tokens.shape[-1]), inside.reshape(-1, 1)),
        }

    totals = None
    for batch in photos:
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), observe(params, batch))
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    flat = flatten(params)
    for name, (count, first, second) in totals.items():
        mean = first / count
        deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
        flat[f"quality_encoder/{name}/shift"] = mean.astype(np.float32)
        flat[f"quality_encoder/{name}/scale"] = (1.0 / (deviation + 1e-3)).astype(np.float32)
    return merge(flat)


def _sums(x, weight):
    """Count, sum and sum of squares over rows; each feature is centred by the caller in float64."""
    weight = weight.astype(x.dtype)
    return weight.sum(), (x * weight).sum(axis=0), (jnp.square(x) * weight).sum(axis=0)
