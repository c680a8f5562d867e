"""What a trained model says of itself: variant, view, calibration, provenance."""

import json
import pathlib

from driqa_jax.degradations import NAMES
from driqa_jax.version import VERSION

FORMAT = "driqa_jax/1"
EVAL_TILES = 4


def describe(workdir: pathlib.Path, run: dict) -> dict[str, str]:
    """The header of a weights file for the newest checkpoint of a run.

    Args:
      workdir: of the run; its `calibration.json`, written by the evaluation at the end, is taken where present.
      run: config, examples and step, as saved with the checkpoint.
    """
    from driqa_jax.data.views import ViewRule

    config = run["config"]
    view = ViewRule(short=config["view"]["short"], tile=config["view"]["tile"], tiles=EVAL_TILES)
    calibration = workdir / "calibration.json"
    return {
        "format": FORMAT,
        "variant": config["model"]["variant"],
        "stage": config["stage"],
        "config": json.dumps(config, sort_keys=True),
        "view": json.dumps(view.to_dict(), sort_keys=True),
        "calibration": calibration.read_text().strip() if calibration.is_file() else json.dumps(None),
        "degradations": json.dumps(NAMES),
        "provenance": json.dumps({"step": run["step"], "examples": run["examples"], "driqa_jax": VERSION}, sort_keys=True),
        "licence": "",
    }
