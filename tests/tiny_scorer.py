"""A scorer of the tiny model: real parts, so its explanations have everything, on views of 64 pixels."""

import functools

import ml_collections
from tiny_model import random_params, tiny

from driqa_jax.data.views import ViewRule
from driqa_jax.inference.scorer import Scorer

RULE = ViewRule(short=64, long=96, tile=32, tiles=4, canvases=((64, 64), (64, 96)))
METADATA = {
    "format": "driqa_jax/1",
    "variant": "tiny",
    "licence": "Apache-2.0",
    "config": {"variant": "tiny", "types": 3, "dropout": 0.0, "statistics": False},
    "view": RULE.to_dict(),
    # Rises from 0 to 1 over all numbers: whatever a model of random parameters says is a score.
    "calibration": {"low": 0.0, "span": 1.0, "centre": 0.1, "width": 0.7},
    "degradations": ["motion_blur", "white_noise", "never_heard_of"],
    "provenance": {"steps": 3},
}


@functools.cache  # its programs are compiled once for all tests
def tiny_scorer():
    """Needs "tiny" in `driqa_jax.models.driqa.VARIANTS` where its configuration is to build a model again."""
    model = tiny(ml_collections.ConfigDict(METADATA["config"]))
    return Scorer(model, random_params(model), METADATA, name="tiny")
