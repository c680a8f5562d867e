"""A scorer of the tiny model: real parts, so its explanations have everything, on views of 64 pixels."""

import ml_collections
from tiny_model import random_params, tiny

from driqa_jax.scoring.scorer import Scorer

METADATA = {
    "format": "driqa_jax/1",
    "variant": "tiny",
    "licence": "Apache-2.0",
    "config": {"variant": "tiny", "types": 3, "dropout": 0.0},
    "view": {"short": 64, "long": 96, "tile": 32, "tiles": 4, "canvases": [[64, 64], [64, 96]]},
    "calibration": {"low": -0.5, "span": 2.0, "centre": 0.5, "width": 2.0},
    "degradations": ["motion_blur", "white_noise", "never_heard_of"],
    "provenance": {},
}


def tiny_scorer(**options):
    model = tiny(ml_collections.ConfigDict(METADATA["config"]))
    return Scorer(model, random_params(model), METADATA, name="tiny", **options)
