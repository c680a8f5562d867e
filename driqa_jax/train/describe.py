"""What a trained model says of itself: variant, view, calibration, provenance."""

import json
import pathlib

from driqa_jax.data.views import ViewRule
from driqa_jax.degradations import NAMES
from driqa_jax.version import VERSION

SCORING_TILES = 4
CALIBRATION = "calibration.json"


def describe(workdir: pathlib.Path, run: dict) -> dict:
    """The metadata of a weights file for the newest checkpoint of a run.

    Args:
      workdir: of the run; its `calibration.json`, written by `driqa export`, is taken where present.
      run: config, examples and step, as saved with the checkpoint.
    """
    config = run["config"]
    view = ViewRule(short=config["view"]["short"], tile=config["view"]["tile"], tiles=SCORING_TILES)
    calibration = workdir / CALIBRATION
    return {
        "variant": config["model"]["variant"],
        "config": config["model"],
        "view": view.to_dict(),
        "calibration": json.loads(calibration.read_text()) if calibration.is_file() else {},
        "degradations": list(NAMES),
        "provenance": {
            "run": {key: value for key, value in config.items() if key != "checkpoint"},
            "step": run["step"],
            "examples": run["examples"],
            "driqa_jax": VERSION,
        },
        "licence": "",
    }
