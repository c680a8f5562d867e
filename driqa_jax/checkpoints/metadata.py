"""The metadata of a model that a run trained: variant, view, calibration, provenance."""

from typing import Any

from driqa_jax.checkpoints.weights import FORMAT
from driqa_jax.data.views import ViewRule
from driqa_jax.version import VERSION

SCORING_TILES = 4


def describe(run: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a weights file for a checkpoint; `run`: config, examples and step, as saved beside its state."""
    config = run["config"]
    sizes = {key: config["view"][key] for key in ("short", "tile")}
    view = ViewRule(**sizes, tiles=SCORING_TILES)
    if config["view"].get("kind") == "crop":
        view = ViewRule(**sizes, tiles=1, kind="crop", canvases=((sizes["tile"], sizes["tile"]),))
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
