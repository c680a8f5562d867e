"""Configurations: the default, files that start from it, overrides from the command line."""

import ast
import dataclasses
import difflib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from flax import traverse_util

from driqa_jax.checkpoints.migrations import completed
from driqa_jax.degradations import Recipe
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import DEFAULTS

RECIPE_FIELDS = tuple(field.name for field in dataclasses.fields(Recipe))
# The keys that may change when a run is resumed: where data and features lie, how often the run logs, evaluates and
# saves, and how a step is executed. They change no parameter. A name that ends with a dot stands for all keys in it.
FREE_ON_RESUME = (
    "cache.folder",
    "checkpoint.",
    "corpus.",
    "data.path",
    "data.threads",
    "eval_every",
    "log_every",
    "parallel",
    "profile",
    "remat",
)


def default() -> ml_collections.ConfigDict:
    """Every key there is, with its default; a config file returns a changed copy."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            # "pretrain" (stage 0+1: E_d and R, no scores), "finetune" (stage 2), or "heads" (stage 2 on kept features:
            # the backbone stands still too, every picture is looked at once).
            "stage": "finetune",
            # Where parameters start: "" (ImageNet backbone, the rest fresh), the name of a bundled model, a weights
            # file, or the workdir of another run; a pretraining run gives E_d and R alone.
            "init": "",
            # A local file of public ViT weights for the backbone of `s` and `b`: the ViT authors' .npz, or timm's
            # .safetensors. "" starts their ViT from nothing; `lite` has its weights from a package.
            "backbone": "",
            # types: names of the degradations that the model can tell; () takes those of `init`, else the whole bank.
            # statistics: whether E_d also reads fixed statistics of the signal; median: whether R reads the median of
            # 3x3 pixels; a model in `init` says both itself. The rest are the ablations, see
            # driqa_jax/models/ablations.py.
            "model": {
                "variant": "lite",
                "types": (),
                "statistics": True,
                "median": True,
                "dropout": 0.1,
                **DEFAULTS,
            },
            "data": {
                "kind": "tfds",  # tfds | folder | photos | fake
                "name": "biq2021",
                "path": "",
                # Of a folder: the (worst, best) score, where scores leave [0, 1]; which columns hold scores and splits,
                # where the names leave a choice; the folder of the images, where it is not the CSV's.
                "mos_range": (),
                "score_column": "",
                "split_column": "",
                "images": "",
                "train": "train/fit",
                "val": "train/val",
                "fold": 0,  # which validation fold .../fit and .../val are of; another seed keeps it
                "split_file": "",  # a split that `driqa data split` wrote, in place of the set's own
                "min_mos": 0.0,  # keep pictures of at least this score; pretraining wants pristine ones
                "halve": False,  # average 2x2 pixels into one, to rid pretraining photos of JPEG traces
                "threads": 2,
                "fake_count": 64,
            },
            # shrink: stage 2 sees half of its photos made smaller, to no less than so much of their sides; quality: it
            # sees half of them encoded again, as JPEGs of at least this quality (100: none).
            "view": {
                "short": 320,
                "canvas": (320, 320),
                "tile": 224,
                "tiles": 1,
                "eval_tiles": 1,
                "kind": "dual",
                "shrink": 1.0,
                "quality": 100,
            },
            "batch_size": 16,  # of all devices of all hosts together
            "parallel": "shard_map",  # who runs the step on all devices: shard_map | pmap
            "compute": "float32",  # of the model while training: float32 | bfloat16; parameters and losses stay float32
            "remat": False,  # compute blocks again on the way back in place of keeping their insides: less memory
            "accumulate": 1,  # parts in which a device reads its batch: less memory, one more forward pass
            "epochs": 5.0,
            "steps": 0,  # in place of epochs, where not 0
            "optim": {
                "lr": 5e-4,
                "warmup": 0.05,  # share of the run
                "final": 0.01,  # share of lr at the end of the cosine
                "weight_decay": 1e-2,
                "clip": 1.0,
                "ema": 0.999,
                # Factors on lr for parameters whose path fits a pattern; the first that fits counts. The read-outs of
                # thousands of standardised features move together, hence slowly.
                "groups": (("quality_encoder/*", 0.2),),
                # Parameters that stay as they are: E_d and R by the method, the backbone up to stride 8 for speed, its
                # batch norms because batches are small.
                "frozen": (
                    "degradation_encoder/*",
                    "restoration/*",
                    "quality_encoder/backbone/stem/*",
                    "quality_encoder/backbone/stage[123]_*",
                    "quality_encoder/backbone/*/scale",
                    "quality_encoder/backbone/*/bias",
                    "*/standardize_*",
                ),
            },
            "loss": {
                "mos": 1.0,
                "plcc": 0.0,
                "rs": "soft_nce",  # soft_nce | ratio | none, and in pretraining restored | none
                "rs_weight": 0.1,
                "rs_sigma": 0.05,
                "rs_tau": 0.1,
                "aux": 0.1,
                "rank": 0.0,  # of rank pairs in stage 2
                "same": 0.0,  # of twins in stage 2
                "restoration": 1.0,
                "restoration_distance": "charbonnier",  # charbonnier | psnr
                "contrast": 0.1,
                "naming": 1.0,
                "severity": 1.0,
            },
            # Rank pairs: every so many photos of a batch one gives a crop at two levels of a degradation.
            # often: (type, n), drawn n times as often as the others.
            "rank": {"every": 4, "often": ()},
            # Twins: every so many photos of a batch one is seen a second time, changed as a person does not see: to at
            # least `shrink` of its sides, as a JPEG of at least `quality`.
            "twins": {"every": 4, "shrink": 0.8, "quality": 85},
            # Pretraining: each block of photos (0: the whole batch is one) under `chains` chains of its own.
            "pretrain": {
                "crop": 128,
                "chains": 4,
                "block": 0,
                "restored": 1.0,  # share of the chains whose pictures R restores, 0 for none; E_d sees all
                # A name of `degradations.RECIPES`; in its place, where not empty, a mixture ((name, probability), ...);
                # the fields of `Recipe` change it, or all parts of a mixture, and None leaves what is there.
                "recipe": {"name": "pairs", "mixture": (), **dict.fromkeys(RECIPE_FIELDS)},
            },
            # `driqa degrade corpus` keeps so many of pretraining's pictures, so many to a file.
            "corpus": {"count": 1024, "shard_size": 256},
            # Of the stage "heads": where features are kept (some 220 kB a picture at float16 and a canvas of 224).
            "cache": {"folder": "features", "dtype": "float16"},
            "profile": (),  # (first step, how many): a profiler's trace of these, in workdir/profile
            "log_every": 50,
            "eval_every": 0,  # steps; 0 evaluates at the end alone
            "checkpoint": {"minutes": 10.0, "steps": 0, "keep": 2},
        }
    ).lock()


def fixed_on_resume(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that must not change when a run is resumed, by dotted key; config: nested, plain values."""
    flat = traverse_util.flatten_dict(completed(config), sep=".")
    groups = tuple(name for name in FREE_ON_RESUME if name.endswith("."))
    return {key: value for key, value in flat.items() if key not in FREE_ON_RESUME and not key.startswith(groups)}


def read(path: str | None, overrides: list[str] = ()) -> ml_collections.ConfigDict:
    """A config file's configuration, with overrides.

    Args:
      path: a Python file with `get_config()`; None: the default.
      overrides: `a.b=value` each, the value a Python literal or bare text.

    Raises:
      UserError: no such file, no Python, no `get_config` in it, an unknown key (the nearest known one is named), or a
        value of another type than the key's.
    """
    config = default() if path is None else _from_file(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--config.{override}: write --config.KEY=VALUE")
        set_key(config, key, text)
    return ml_collections.FrozenConfigDict(config)


def _from_file(path):
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such config file")
    if file.suffix != ".py":
        raise UserError(f"{path}: a config file is Python, named *.py")
    spec = importlib.util.spec_from_file_location("driqa_config", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if hasattr(module, "get_config"):
            return module.get_config()
    except Exception as error:  # whatever the file's own code may raise, and the lock on unknown keys
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    raise UserError(f"{path}: a config file defines get_config(), and this one does not")


def keys(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    """Dotted names of all leaves."""
    found = []
    for name, value in config.items():
        nested = isinstance(value, ml_collections.ConfigDict)
        found.extend(keys(value, f"{prefix}{name}.") if nested else [prefix + name])
    return found


def set_key(config: ml_collections.ConfigDict, key: str, text: str) -> None:
    """Set one key, by its dotted name, to what `text` says. Raises UserError as `read` does."""
    known = keys(config)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        raise UserError(f"--config.{key}: no such key; the nearest is --config.{near[0]}")
    *path, leaf = key.split(".")
    node = config
    for name in path:
        node = node[name]
    node[leaf] = _parse(key, text, node[leaf])


def _parse(key, text, current):
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
