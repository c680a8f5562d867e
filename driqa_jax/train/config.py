"""The training configuration: every key with its type, default, unit and meaning; config files; overrides."""

import ast
import dataclasses
import difflib
import json
import pathlib
import runpy
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict, FrozenConfigDict

from driqa_jax.degradations import Recipe
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import DEFAULTS, SWITCHES
from driqa_jax.models.driqa import OLDER
from driqa_jax.train.optim import matches

# The keys that may change when a run is resumed: where data and features lie, how often the run logs, evaluates and
# saves, and how a step is executed. They change no parameter. Patterns, as in `optim.frozen`.
FREE_ON_RESUME = (
    "cache.folder",
    "checkpoint.*",
    "corpus.*",
    "data.path",
    "data.sources.*.path",
    "data.threads",
    "eval_every",
    "log_every",
    "parallel",
    "profile",
    "remat",
)


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the configuration.

    default: its type is the key's type; None: set by another key. before: the value of runs from before the key
    existed; None: the default. A change of an existing key's default must set `before` to the old one.
    """

    default: Any
    meaning: str
    before: Any = None


KEYS: dict[str, Key] = {
    "seed": Key(0, "Seed of every random stream."),
    "stage": Key(
        "finetune",
        "'pretrain': stage 0+1, trains E_d and R without human scores. 'finetune': stage 2. 'heads': stage 2 on kept "
        "features of a frozen backbone, which reads each image once.",
    ),
    "init": Key(
        "",
        "Initial parameters: '' (public backbone, the rest random), a bundled model, a weights file, or the workdir of "
        "a run. A pretraining run gives E_d and R only.",
    ),
    "backbone": Key(
        "",
        "Local file of public ViT weights for the variants s and b: the authors' .npz or timm's .safetensors. '': a "
        "random ViT. The variant lite takes its weights from a package.",
    ),
    "model.variant": Key("lite", "Size of the model: 'lite', 's' or 'b'."),
    "model.types": Key((), "Names of the degradations that E_d detects; () takes those of `init`, else all."),
    "model.statistics": Key(True, "E_d also reads fixed signal statistics; `init` overrides it.", OLDER["statistics"]),
    "model.median": Key(True, "R also reads the 3x3 median of the pixels; `init` overrides it.", OLDER["median"]),
    "model.dropout": Key(0.1, "Dropout probability."),
    **{
        f"model.{key}": Key(default, f"Ablation: {', '.join(map(repr, SWITCHES[key]))}; see models/ablations.py.")
        for key, default in DEFAULTS.items()
    },
    "data.kind": Key("tfds", "Kind of source: 'tfds', 'folder', 'photos' or 'fake'."),
    "data.name": Key("biq2021", "Name of the tfds data set."),
    "data.path": Key("", "Folder or CSV file of the data."),
    "data.mos_range": Key((), "(worst, best) score of a CSV file's scale; () if its scores lie in [0, 1]."),
    "data.score_column": Key("", "Score column of a CSV file; '': found by its name."),
    "data.split_column": Key("", "Split column of a CSV file; '': found by its name."),
    "data.images": Key("", "Folder of the images of a CSV file; '': the folder of the file."),
    "data.train": Key("train/fit", "Split to train on."),
    "data.val": Key("train/val", "Split to validate on."),
    "data.fold": Key(0, "Validation fold that .../fit and .../val refer to; it does not depend on `seed`."),
    "data.split_file": Key("", "Split file of `driqa data split`, in place of the data set's own split."),
    "data.min_mos": Key(0.0, "Keep images of at least this MOS (0 to 1); pretraining needs pristine ones."),
    "data.halve": Key(False, "Average 2x2 pixels into one, which removes JPEG artifacts of pretraining images."),
    "data.threads": Key(2, "Threads that decode."),
    "data.fake_count": Key(64, "Number of images of the kind 'fake'."),
    "data.sources": Key({}, "Several data sets by name, each with a `weight` and keys of `data`; see docs/DATA.md."),
    "view.short": Key(320, "Short side in pixels of the resized whole image."),
    "view.canvas": Key((320, 320), "(rows, columns) in pixels that the whole image is padded to."),
    "view.tile": Key(224, "Side in pixels of a native-resolution tile."),
    "view.tiles": Key(1, "Tiles per image in training."),
    "view.eval_tiles": Key(1, "Tiles per image in validation."),
    "view.kind": Key("dual", "'dual': whole image and tiles; 'crop': one crop serves as both."),
    "view.shrink": Key(1.0, "Stage 2 shrinks half of the images to at least this share of their sides; 1: none."),
    "view.quality": Key(100, "Stage 2 re-encodes half of the images as JPEG of at least this quality; 100: none."),
    "batch_size": Key(16, "Images per step over all devices of all hosts."),
    "parallel": Key("shard_map", "Executor of the step: 'shard_map' or 'pmap'."),
    "compute": Key("float32", "Dtype of the model: 'float32' or 'bfloat16'; parameters and losses stay float32."),
    "remat": Key(False, "Recompute blocks in the backward pass: less memory, more time."),
    "accumulate": Key(1, "Parts in which a device reads its batch: less memory, one more forward pass."),
    "epochs": Key(5.0, "Length of the run in passes over the training images."),
    "steps": Key(0, "Length of the run in steps; overrides `epochs` unless 0."),
    "optim.lr": Key(5e-4, "Peak learning rate."),
    "optim.warmup": Key(0.05, "Share of the run with linear warm-up."),
    "optim.final": Key(0.01, "Final learning rate as a share of `lr`."),
    "optim.weight_decay": Key(1e-2, "Decoupled weight decay of kernels."),
    "optim.clip": Key(1.0, "Largest global norm of the gradient."),
    "optim.ema": Key(0.999, "Decay of the parameter average."),
    "optim.groups": Key(
        (("quality_encoder/*", 0.2),),
        "(pattern, factor) on `lr` by parameter path; the first match counts. The default slows the read-outs, which "
        "sum thousands of standardized features.",
    ),
    "optim.frozen": Key(
        (
            "degradation_encoder/*",
            "restoration/*",
            "quality_encoder/backbone/stem/*",
            "quality_encoder/backbone/stage[123]_*",
            "quality_encoder/backbone/*/scale",
            "quality_encoder/backbone/*/bias",
            "*/standardize_*",
        ),
        "Patterns of parameter paths that are not trained. The default freezes E_d and R by the method, the backbone "
        "up to stride 8 for speed, and its batch norms because batches are small.",
    ),
    "loss.mos": Key(1.0, "Weight of the L1 loss of MOS."),
    "loss.plcc": Key(0.0, "Weight of the PLCC loss."),
    "loss.rs": Key("soft_nce", "RS loss: 'soft_nce', 'ratio' or 'none'; in pretraining 'restored' or 'none'."),
    "loss.rs_weight": Key(0.1, "Weight of the RS loss."),
    "loss.rs_sigma": Key(0.05, "Width of 'soft_nce' in percentiles of MOS."),
    "loss.rs_tau": Key(0.1, "Temperature of 'soft_nce'."),
    "loss.aux": Key(0.1, "Weight of the L1 loss of the auxiliary head."),
    "loss.rank": Key(0.0, "Weight of the ranking loss of stage 2; 0 makes no pairs."),
    "loss.same": Key(0.0, "Weight of the consistency loss of stage 2; 0 makes no twins."),
    "loss.restoration": Key(1.0, "Weight of the restoration loss."),
    "loss.restoration_distance": Key("charbonnier", "Restoration loss: 'charbonnier' or 'psnr'."),
    "loss.contrast": Key(0.1, "Weight of the contrastive loss of E_d."),
    "loss.naming": Key(1.0, "Weight of the loss of degradation types."),
    "loss.severity": Key(1.0, "Weight of the loss of severities."),
    "rank.every": Key(4, "One ranking pair per this many images."),
    "rank.often": Key((), "(type, n): draw the type n times as often as the others."),
    "twins.every": Key(4, "One perturbed twin per this many images."),
    "twins.shrink": Key(0.8, "Smallest share of its sides that a twin is resized to."),
    "twins.quality": Key(85, "Lowest JPEG quality of a twin."),
    "pretrain.crop": Key(128, "Side in pixels of a crop."),
    "pretrain.chains": Key(4, "Degradation chains per block of images."),
    "pretrain.block": Key(0, "Consecutive images that share their chains; 0: the whole batch."),
    "pretrain.restored": Key(1.0, "Share of the chains that R restores, 0 for none; E_d reads all."),
    "pretrain.recipe.name": Key("pairs", "Name of a recipe in `degradations.RECIPES`."),
    "pretrain.recipe.mixture": Key((), "((name, probability), ...) of recipes, in place of `name` unless ()."),
    **{
        f"pretrain.recipe.{field.name}": Key(None, f"Replaces the recipe's {field.name} ({field.type}) unless None.")
        for field in dataclasses.fields(Recipe)
    },
    "corpus.count": Key(1024, "Images that `driqa degrade corpus` writes."),
    "corpus.shard_size": Key(256, "Images per shard."),
    "cache.folder": Key("features", "Folder for the features of the stage 'heads', about 220 kB per image."),
    "cache.dtype": Key("float16", "Dtype of kept features: 'float16' or 'float32'."),
    "profile": Key((), "(first step, number of steps) to trace into workdir/profile; () for none."),
    "log_every": Key(50, "Steps between log lines."),
    "eval_every": Key(0, "Steps between validations; 0: at the end only."),
    "checkpoint.minutes": Key(10.0, "Minutes between checkpoints."),
    "checkpoint.steps": Key(0, "Steps between checkpoints; 0: by time only."),
    "checkpoint.keep": Key(2, "Newest checkpoints to keep."),
}


def default() -> ConfigDict:
    """Every key with its default; a config file returns a changed copy."""
    flat = {name: key.default for name, key in KEYS.items()}
    return ConfigDict(traverse_util.unflatten_dict(flat, sep=".")).lock()


def help_text() -> str:
    """Every key with its type, default and meaning, for `driqa train --help-config`."""
    blocks = []
    for name, key in KEYS.items():
        kind = "any" if key.default is None else type(key.default).__name__
        meaning = textwrap.fill(key.meaning, 100, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{name}: {kind} = {key.default!r}\n{meaning}")
    return "\n".join(blocks)


def migrate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested training configuration, of JSON values, with the keys that were added since it was written."""
    flat = traverse_util.flatten_dict(dict(config), sep=".", keep_empty_nodes=True)
    values = {name: key.default if key.before is None else key.before for name, key in KEYS.items()}
    before = json.loads(json.dumps(values))  # lists in place of tuples
    # The seed used to select the validation fold too.
    fold = {"data.fold": flat["seed"]} if "seed" in flat else {}
    return traverse_util.unflatten_dict({**before, **fold, **flat}, sep=".")


def fixed_on_resume(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that must not change when a run is resumed, by dotted key; config: nested, plain values."""
    flat = traverse_util.flatten_dict(migrate_config(config), sep=".")
    return {key: value for key, value in flat.items() if not matches(key, FREE_ON_RESUME)}


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Raises UserError with the keys, by dotted name, that differ from those that a run in `folder` began with."""
    changed = sorted(key for key in before.keys() | now.keys() if now.get(key) != before.get(key))
    if changed:
        raise UserError(
            f"{folder} holds a run of another configuration (it differs in {', '.join(changed)}); set another "
            "--workdir, or use the same configuration to resume"
        )


def read(path: str | None, overrides: Sequence[str] = ()) -> FrozenConfigDict:
    """The configuration of a config file, Python with `get_config()` (None: the default), with overrides.

    An override is `a.b=value`; the value is a Python literal or plain text. Raises UserError for a file that is
    missing, is not Python or has no `get_config`, for an unknown key, and for a value of another type than the key's.
    """
    config = default() if path is None else _from_file(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--config.{override}: write --config.KEY=VALUE")
        set_key(config, key, text)
    return FrozenConfigDict(config)


def _from_file(path: str) -> ConfigDict:
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such config file")
    if file.suffix != ".py":
        raise UserError(f"{path}: a config file is Python, named *.py")
    try:
        names = runpy.run_path(path)
        config = names["get_config"]() if "get_config" in names else None
    except Exception as error:  # the file's code may raise anything, and the lock refuses unknown keys
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: a config file must define get_config(), which returns a ConfigDict")
    return config


def set_key(config: ConfigDict, key: str, text: str) -> None:
    """Set one key, by its dotted name, to the value in `text`. Raises UserError as `read` does."""
    values = traverse_util.flatten_dict(config.to_dict(), sep=".")
    if key.startswith("data.sources.") and (entry := key.rpartition(".")[0]):
        values = {f"{entry}.{name}": value for name, value in _source_keys(config.data).items()}
    if key not in values:
        near = difflib.get_close_matches(key, values, n=1, cutoff=0.0)
        raise UserError(f"--config.{key}: no such key; the nearest is --config.{near[0]}")
    with config.unlocked():  # a source states only the keys that it changes
        config.update(traverse_util.unflatten_dict({key: _parse(key, text, values[key])}, sep="."))


def set_keys(config: ConfigDict, changes: Mapping[str, Any], where: str) -> None:
    """Set keys to values that are given in Python, not as text. Raises UserError that begins with `where`."""
    for key, value in changes.items():
        try:
            set_key(config, key, value if isinstance(value, str) else repr(value))
        except UserError as error:
            raise UserError(f"{where}: {str(error).replace('--config.', '')}") from None


def data_sets(config: ConfigDict) -> dict[str, ConfigDict]:
    """By name the `data` of each source, with its `weight`; only `config.data` itself, named "", if it has no sources.

    Raises UserError for an unknown key, a value of another type, or a weight that is not above 0.
    """
    sets = {name: ConfigDict({**_source_keys(config.data), "name": name}) for name in sorted(config.data.sources)}
    for name, data in sets.items():
        where, changes = f"config.data.sources.{name}", config.data.sources[name]
        if not hasattr(changes, "items"):
            raise UserError(f"{where}: expected keys of `data` and a weight, as {{'weight': 1.0}}, got {changes!r}")
        set_keys(data, changes, where)
        if not data.weight > 0:
            raise UserError(f"{where}.weight must be above 0, got {data.weight:g}; remove a source that is not used")
    return sets or {"": config.data}


def _source_keys(data: ConfigDict) -> dict[str, Any]:
    return {**{key: x for key, x in data.items() if key not in ("sources", "threads", "halve")}, "weight": 1.0}


def _parse(key: str, text: str, current: Any) -> Any:
    if isinstance(current, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(current, float) and type(value) is int:
        value = float(value)
    if isinstance(current, tuple) and isinstance(value, list):
        value = tuple(value)
    if current is not None and type(value) is not type(current):
        raise UserError(f"--config.{key}={text}: expected {type(current).__name__}, as in {current!r}")
    return value
