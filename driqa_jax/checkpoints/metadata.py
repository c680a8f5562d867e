"""What a trained model says of itself: variant, view, calibration, provenance."""

from driqa_jax.checkpoints.weights import FORMAT
from driqa_jax.data.views import ViewRule
from driqa_jax.version import VERSION

SCORING_TILES = 4


def describe(run: dict) -> dict:
    """The metadata of a weights file for the newest checkpoint of a run.

    Args:
      run: config, examples and step, as saved with the checkpoint.
    """
    config = run["config"]
    kept = {key: config["view"][key] for key in ("short", "tile")}
    view = ViewRule(**kept, tiles=SCORING_TILES)
    if config["view"].get("kind") == "crop":
        view = ViewRule(**kept, tiles=1, kind="crop", canvases=((kept["tile"], kept["tile"]),))
    return {
        "format": FORMAT,
        "variant": config["model"]["variant"],
        "config": config["model"],
        "view": view.to_dict(),
        "calibration": {},  # `driqa export` fits one
        "degradations": list(config["model"]["types"]),
        "provenance": {
            "run": {key: value for key, value in config.items() if key not in ("checkpoint", "cache")},
            "step": run["step"],
            "examples": run["examples"],
            "driqa_jax": VERSION,
        },
        "licence": "",
    }
