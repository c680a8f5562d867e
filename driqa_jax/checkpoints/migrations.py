"""Configurations of older trainings, which lack keys that were added later."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from driqa_jax.models.ablations import DEFAULTS
from driqa_jax.models.driqa import OLDER

# The behaviour before a key existed, as a JSON value.
UNSET: dict[str, Any] = {
    "data.split_file": "",
    "data.score_column": "",
    "data.split_column": "",
    "data.images": "",
    "view.kind": "dual",
    "view.shrink": 1.0,
    "view.quality": 100,
    "cache.dtype": "float16",
    "backbone": "",
    "compute": "float32",
    "accumulate": 1,
    "loss.restoration_distance": "charbonnier",
    "loss.rank": 0.0,
    "loss.same": 0.0,
    "rank.every": 4,
    "rank.often": [],
    "twins.every": 4,
    "twins.shrink": 0.8,
    "twins.quality": 85,
    **{f"model.{key}": value for key, value in {**OLDER, **DEFAULTS}.items()},
}


def migrate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested training configuration with the keys that it lacks."""
    flat = traverse_util.flatten_dict(dict(config), sep=".", keep_empty_nodes=True)
    # The seed used to select the validation fold too.
    fold = {"data.fold": flat["seed"]} if "seed" in flat else {}
    return traverse_util.unflatten_dict({**UNSET, **fold, **flat}, sep=".")
