"""The ablations: each key of a model's configuration picks a part from a dictionary, the first of which is the default.

restoration: what the predictor reads of `R`; "none" is learned tokens. "random_frozen" (`R` as it is drawn) and
  "finetune" (`R` is trained in stage 2) differ in the training alone.
condition, inject: what `R` reads of `E_d`, and how; both want a pretraining of their own.
degradation: what the interaction reads of `E_d` (`R` reads the picture's own vector whatever stands here); "shuffled"
  is another photo's; with "no_pretrain" `E_d` stays as it is drawn.
quality: the backbone, or learned maps of the same channels.
interaction: who reads whom, and how.
baseline: backbone and head alone, the head of its usual size: nothing of a tile reaches the score.
"""

from collections.abc import Mapping
from typing import Any

from driqa_jax.models.controls import (
    ForeignDegradation,
    LearnedDegradation,
    LearnedMaps,
    LearnedTokens,
    OwnDegradation,
    unconditioned,
)
from driqa_jax.models.interaction import READERS
from driqa_jax.models.layers import Add, FiLM
from driqa_jax.models.restoration import RestorationTokens

SWITCHES: dict[str, dict[Any, Any]] = {
    "restoration": {
        "full": RestorationTokens,
        "none": LearnedTokens,
        "random_frozen": RestorationTokens,
        "finetune": RestorationTokens,
    },
    "condition": {"d": lambda d: d, "none": unconditioned},
    "inject": {"film": FiLM, "add": Add},
    "degradation": {
        "full": OwnDegradation,
        "none": LearnedDegradation,
        "shuffled": ForeignDegradation,
        "no_pretrain": OwnDegradation,
    },
    "quality": {"full": lambda backbone: backbone.clone(), "none": lambda backbone: LearnedMaps(backbone.channels)},
    "interaction": READERS,
    # What it sets in the others.
    "baseline": {False: {}, True: {"restoration": "none", "degradation": "none", "interaction": "none"}},
}
DEFAULTS = {key: next(iter(choices)) for key, choices in SWITCHES.items()}


def chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every switch: the configuration's, or the default where it has none (older weights' have none).

    Raises:
      ValueError: an unknown value; the message names the key and the choices.
    """
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    for key, value in values.items():
        if value not in SWITCHES[key]:
            raise ValueError(f"model.{key} is {value!r}; the choices are {', '.join(map(str, SWITCHES[key]))}")
    return {**values, **SWITCHES["baseline"][values["baseline"]]}


def parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What every switch picks. Raises ValueError as `chosen` does."""
    return {key: SWITCHES[key][value] for key, value in chosen(config).items()}
