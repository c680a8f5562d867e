"""Where a run's parameters start."""

import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from driqa_jax.checkpoints.load import LoadedModel, example_inputs, load
from driqa_jax.checkpoints.weights import flatten, unflatten
from driqa_jax.data.pipeline import Place, evaluation_batches, pretrain_batches
from driqa_jax.data.source import Source, Subset
from driqa_jax.data.splits import select
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import chosen
from driqa_jax.models.driqa import DRIQA, OLDER
from driqa_jax.models.pretrained import WHERE, imagenet_weights, read_vit
from driqa_jax.models.quality_encoder import STRIDE
from driqa_jax.models.signal_statistics import signal_statistics
from driqa_jax.models.vit import ViT
from driqa_jax.train import rng
from driqa_jax.train.config import migrate_config
from driqa_jax.train.stages import finetune, pretrain

PRETRAINED = {"degradation_encoder", "restoration"}
# Ablations that keep a pretrained part random.
RANDOM = {("restoration", "random_frozen"): "restoration", ("degradation", "no_pretrain"): "degradation_encoder"}
# Ablations that a pretrained `R` must share with the model that reads it.
RESTORER_FORM = ("condition", "inject")
MEASURED_IMAGES = 192


def load_init(config: ConfigDict) -> LoadedModel:
    """The model of `config.init`, which a run loads once. Raises UserError if it cannot be loaded or has no `R`."""
    path = pathlib.Path(config.init)
    files = sorted(path.glob("checkpoints/*")) if path.is_dir() else [path] if path.is_file() else []
    version = tuple((file.name, file.stat().st_mtime_ns) for file in files)
    loaded = _load_init(config.init, config.model.variant, version)
    if "restoration" not in loaded.params:
        raise UserError(
            f"{config.init}: has the form {loaded.config.get('form', 'interaction')!r} without a restoration network, "
            "which `driqa train` needs; give --config.init=lite-0.5, or use `driqa fit`"
        )
    return loaded


@functools.lru_cache(maxsize=1)
def _load_init(name: str, variant: str, version: tuple) -> LoadedModel:
    del version  # a file or workdir that has changed since is loaded again
    return load(name, variant)


def with_model(config: ConfigDict, known: Mapping | None = None) -> FrozenConfigDict:
    """The configuration completed with what the initial parameters determine of the model.

    `model.types` comes from the configuration if set, else from `known`, else from `init`, else it is the whole bank.
    What E_d and R read (`OLDER`) comes from `known`, else from `init`, else from the configuration. `known` is the
    model's part of the configuration that a checkpoint was saved with.

    Raises UserError if `init` cannot be loaded, or a pretraining has other types than those that label its images.
    """
    filled = ConfigDict(config.to_dict())
    if known is None and config.init:
        init = load_init(config)
        known = {**init.config, "types": init.metadata["degradations"]}
    if known is not None:
        filled.model.types = tuple(config.model.types) or tuple(known["types"])
        filled.model.update({key: known.get(key, value) for key, value in OLDER.items()})
    filled.model.types = tuple(filled.model.types) or NAMES
    if config.stage == "pretrain" and filled.model.types != NAMES:
        given = config.init or "model.types"
        raise UserError(f"pretraining detects the {len(NAMES)} types of the bank; {given} has others")
    return FrozenConfigDict(filled)


def validation_overlap(config: ConfigDict, whole: Callable[[], Source], val: Source) -> int:
    """How many images of `val`, a part of `whole()`, `config.init` was trained on, as far as its record tells.

    0 for a pretraining, which reads no scores; if only E_d and R are taken; for data of another name or split file; and
    for several sources. Raises UserError if `config.init` cannot be loaded.
    """
    if not config.init or config.stage != "finetune" or config.data.kind == "folder" or config.data.sources:
        return 0
    before = load_init(config).metadata["provenance"].get("run", {})
    data = before.get("data", {})
    same = not data.get("sources") and all(data.get(x, "") == config.data[x] for x in ("kind", "name", "split_file"))
    if before.get("stage", "pretrain") == "pretrain" or not same or chosen(before["model"]) != chosen(config.model):
        return 0
    try:
        learned = select(whole(), data["train"], migrate_config(before)["data"]["fold"], data["min_mos"] or None)
    except ValueError:  # the split file has changed since
        return 0
    return int(np.isin(val.column("image_id"), learned.column("image_id")).sum())


def pretraining_params(config: ConfigDict, model: DRIQA, source: Source) -> dict:
    """Random `E_d` and `R`, or those of `config.init`; only its `E_d` if an ablation gives `R` another form.

    The constants that standardize the statistics of a random `E_d` are measured on degraded images of `source`.

    Raises UserError if `config.init` cannot be loaded, or if `config.backbone` is set.
    """
    if config.backbone:
        raise UserError("config.backbone is for stage 2; a pretraining has no quality encoder")
    if config.init:
        init = load_init(config)
        theirs, ours = chosen(init.config), chosen(config.model)
        same_form = all(theirs[key] == ours[key] for key in RESTORER_FORM)
        restorer = init.params if same_form else random_pretraining_params(config, model)
        encoder = init.params["degradation_encoder"]
        return {"degradation_encoder": encoder, "restoration": restorer["restoration"]}
    params = random_pretraining_params(config, model)
    if "standardize_statistics" not in params["degradation_encoder"]:
        return params
    data = config.data
    place = Place(threads=data.threads)
    photos = pretrain_batches(source, config.pretrain.crop, config.batch_size, config.seed, data.halve, place)

    @jax.jit
    def statistics(photo, index, number):
        images, *_ = pretrain.degrade(config, photo / 255.0, index, number)
        return signal_statistics(images.reshape(-1, *photo.shape[1:]))

    measured = itertools.islice(photos, -(-MEASURED_IMAGES // config.batch_size))
    # Steps beyond those of any run, as in the validation.
    rows = (statistics(batch["photo"], batch["index"], 2**29 + number) for number, batch in enumerate(measured))
    return _with_constants(params, ({"degradation_encoder/standardize_statistics": _sums(x)} for x in rows))


def random_pretraining_params(config: ConfigDict, model: DRIQA) -> dict:
    """Random `E_d` and `R`, whose standardizing constants are not measured."""
    key = rng.stream(config.seed, "init")
    return jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)), method="pretraining"))()["params"]


def finetuning_params(config: ConfigDict, model: DRIQA, source: Source) -> dict:
    """Parameters for stage 2.

    A whole model in `config.init` with the ablations of the configuration is taken as it is. From any other, and from a
    pretraining run, `E_d` and `R` are taken. The backbone then starts from its public weights, and the constants that
    standardize its features are measured on images of `source`.

    Raises UserError if `config.init` cannot be loaded or its `R` has another form, or if `config.backbone` cannot be
    loaded or has no use.
    """
    init = load_init(config) if config.init else None
    if init and set(init.params) - PRETRAINED and chosen(init.config) == chosen(config.model):
        if config.backbone:
            raise UserError(f"{config.init} holds a whole model with its backbone; leave config.backbone empty")
        return init.params
    params = encoders(config, model)
    return standardized(params, measured_features(config, model, params, source))


def encoders(config: ConfigDict, model: DRIQA) -> dict:
    """Parameters for stage 2 except the standardizing constants; they depend on the configuration only.

    `E_d` and `R` come from `config.init` unless an ablation keeps them random. Random ones are the same for every seed:
    they are frozen, so their features are then computed once for all seeds. A random `E_d` still takes the
    standardizing constants of `init`, which are measured and not learned. Raises UserError as `finetuning_params`.
    """
    switches = chosen(config.model)
    draw = jax.jit(lambda key: model.init(key, *example_inputs())["params"])
    params = draw(rng.stream(config.seed, "init"))
    fixed = draw(rng.stream(0, "init")) if config.seed else params
    params.update({name: fixed[name] for name in PRETRAINED})
    if switches["quality"] == "full":
        public = _backbone_weights(config, model.quality_encoder.backbone)
        params["quality_encoder"]["backbone"] = public or fixed["quality_encoder"]["backbone"]
    if config.init:
        init = load_init(config)
        adopted = PRETRAINED - {RANDOM.get(switch) for switch in switches.items()}
        theirs = chosen(init.config)
        differ = [key for key in RESTORER_FORM if switches[key] != theirs[key]]
        if differ and "restoration" in adopted:
            key = differ[0]
            raise UserError(
                f"{config.init}: its R was trained with model.{key}={theirs[key]}, but config.model.{key} is "
                f"{switches[key]}; pretrain another with --config.model.{key}={switches[key]}"
            )
        encoder = init.params["degradation_encoder"]
        measured = {name: value for name, value in encoder.items() if name.startswith("standardize_")}
        params["degradation_encoder"] = {**params["degradation_encoder"], **measured}
        params.update({name: init.params[name] for name in adopted})
    return params


def _backbone_weights(config: ConfigDict, backbone) -> dict:
    """Public weights of the backbone, or {} for a ViT without a file."""
    if not isinstance(backbone, ViT):
        if config.backbone:
            raise UserError(
                f"config.backbone={config.backbone}: the variant {config.model.variant!r} takes its backbone from an "
                "installed package; leave the key empty"
            )
        return imagenet_weights()[0]
    if config.backbone:
        return read_vit(config.backbone, backbone)
    print(
        f"variant {config.model.variant!r}: config.backbone is empty, so the ViT starts from random numbers and learns "
        f"little from a small set; {WHERE}",
        file=sys.stderr,
    )
    return {}


def measured_rows(source: Source) -> np.ndarray:
    """The rows whose features are measured, spread over the set because sets are often sorted by subset."""
    return np.unique(np.linspace(0, len(source) - 1, MEASURED_IMAGES).astype(int))


def measured_features(config: ConfigDict, model: DRIQA, params: dict, source: Source) -> Iterator[tuple]:
    """Moments (B, F), cells (B, h, w, F') and valid (B, 2) of the measured images, in batches."""
    measured = Subset(source, measured_rows(source), "measured")
    batches = evaluation_batches(measured, finetune.view_rule(config, 1), tuple(config.view.canvas), 8)

    @jax.jit
    def look(params, batch):
        return model.apply({"params": params}, *finetune.as_inputs(batch)[:2], method="look_at_quality")

    for batch in batches:
        real = batch["real"] > 0
        features = look(params, batch)
        yield *(np.asarray(x)[real] for x in features), batch["valid"][real]


def standardized(params: dict, features: Iterable[tuple]) -> dict:
    """Parameters whose standardizing constants are the mean and deviation of every feature of the backbone.

    `features`: moments, cells and valid in batches, as `measured_features` gives them.
    """

    def sums(moments, cells, valid):
        grid = cells.shape[1:3]
        rows, cols = (np.arange(side)[None, :] < valid[:, i : i + 1] // STRIDE for i, side in enumerate(grid))
        inside = cells[rows[:, :, None] & cols[:, None, :]]
        layers = {"standardize_vector": moments, "standardize_tokens": inside}
        return {f"quality_encoder/{layer}": _sums(x) for layer, x in layers.items()}

    return _with_constants(params, itertools.starmap(sums, features))


def _sums(x) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, sum and sum of squares over rows, in float64."""
    x = np.asarray(x, np.float64)
    return len(x), x.sum(axis=0), np.square(x).sum(axis=0)


def _with_constants(params: dict, sums: Iterable[Mapping[str, tuple]]) -> dict:
    """Parameters with the constants of standardizing layers, by path, from the sums over the rows of each batch."""
    flat = flatten(params)
    totals = functools.reduce(functools.partial(jax.tree.map, np.add), sums)
    for module, (count, first, second) in totals.items():
        mean = first / count
        deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
        flat[f"{module}/shift"] = mean.astype(np.float32)
        flat[f"{module}/scale"] = (1.0 / (deviation + 1e-3)).astype(np.float32)
    return unflatten(flat)
