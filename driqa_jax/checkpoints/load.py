"""The only loader of a trained model: parameters, metadata and configuration from a name, a file or a workdir.

It imports JAX and Flax only where a model is built, since a run with cached executables builds none.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from driqa_jax.checkpoints import weights
from driqa_jax.checkpoints.weights import Params, WeightsError
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError
from driqa_jax.version import VERSION

if TYPE_CHECKING:
    import jax
    from ml_collections import ConfigDict

SCORING_TILES = 4


class LoadedModel(NamedTuple):
    """`params`: nested numpy arrays, float32; `metadata`: decoded, see `weights`; `file`: of the weights, or None."""

    params: Params
    metadata: dict[str, Any]
    file: pathlib.Path | None

    @property
    def config(self) -> ConfigDict:
        """The model's configuration. Raises WeightsError for an unknown variant."""
        return model_config(self.metadata, self.file or "weights")

    def build(self) -> Any:
        """The module, see `driqa_jax.models.driqa.build_model`. Raises as `config` does."""
        from driqa_jax.models.driqa import build_model

        return build_model(self.config)


def load(name: str | os.PathLike, variant: str | None = None) -> LoadedModel:
    """Load a bundled model by name, a weights file, or the newest checkpoint of a workdir (averaged parameters).

    A workdir is only read, so that an active run can be loaded. If its newest checkpoint is corrupt, the previous one
    is loaded, with a line on standard error.

    Raises UserError if nothing of that name can be loaded, or it is not of this variant (None: any).
    """
    if pathlib.Path(name).suffix == ".onnx":
        raise WeightsError(f"{name}: an ONNX file, from which JAX cannot read a model; give the .safetensors file")
    path, is_bundled = pathlib.Path(name), os.fspath(name) in weights.bundled_files()
    if path.is_dir() and not is_bundled:
        loaded = LoadedModel(*_newest_checkpoint(path), None)
    else:
        is_file = not is_bundled and (path.is_file() or path.suffix == ".safetensors")
        file = path if is_file else weights.bundled(os.fspath(name))
        loaded = LoadedModel(*weights.load_weights(file), file)
    if variant and (held := loaded.metadata["variant"]) != variant:
        raise WeightsError(
            f"{name}: holds a model of the variant {held!r}, but model.variant is {variant!r}; set that variant, or "
            "give another model"
        )
    return loaded


def _newest_checkpoint(workdir: pathlib.Path) -> tuple[Params, dict[str, Any]]:
    # Orbax takes a second to import, which scoring with a weights file should not pay.
    from driqa_jax.checkpoints import manager

    folder = workdir.resolve() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir}: not a training run; expected a folder with checkpoints/")
    step, state, run, corrupt = manager.newest(folder, ("ema", "frozen"))
    if step is None:
        raise UserError(f"{workdir}: the run has saved no checkpoint yet")
    for other, why in corrupt.items():
        print(f"{folder / str(other)} is corrupt ({why}): loading step {step}", file=sys.stderr)
    return weights.unflatten(state["ema"], state["frozen"]), weights.decode_metadata(describe(run), workdir)


def describe(run: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a weights file for a checkpoint; `run`: config, examples and step, as saved beside its state."""
    config = run["config"]
    sizes = {key: config["view"][key] for key in ("short", "tile")}
    view = ViewRule(**sizes, tiles=SCORING_TILES)
    if config["view"].get("kind") == "crop":
        view = ViewRule(**sizes, tiles=1, kind="crop", canvases=((sizes["tile"], sizes["tile"]),))
    return {
        "format": weights.FORMAT,
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


def model_config(metadata: Mapping[str, Any], path: str | os.PathLike = "weights") -> ConfigDict:
    """The model's configuration from weights' metadata. Raises WeightsError for an unknown variant."""
    from ml_collections import ConfigDict

    from driqa_jax.models.driqa import VARIANTS

    config = ConfigDict(metadata["config"])
    config = config.get("model", config)  # older weights hold the whole configuration of their training
    if config.get("variant") not in VARIANTS:
        raise WeightsError(
            f"{path}: the variant must be one of {', '.join(sorted(VARIANTS))}, got {config.get('variant')!r}"
        )
    return config


def plain_config(config: Any) -> Any:
    """A configuration as plain values; None stays None."""
    return config.to_dict() if hasattr(config, "to_dict") else config


def require_params(loaded: LoadedModel, model: Any) -> None:
    """Raises WeightsError, naming the tensors, unless a weights file has the parameters of `model`."""
    expected = weights.flatten(expected_params(model))
    weights.check_tensors(loaded.file or "weights", weights.flatten(loaded.params), expected)


def expected_params(model: Any) -> Params:
    """Names and shapes of the parameters of a model, which do not depend on the views; computes nothing."""
    import jax

    return jax.eval_shape(lambda: model.init(jax.random.key(0), *example_inputs()))["params"]


def example_inputs() -> tuple[jax.Array, ...]:
    """The smallest valid inputs of a model, for initializing parameters: whole, valid, tiles, tile_boxes."""
    import jax.numpy as jnp

    image = jnp.zeros((1, 32, 32, 3))
    return image, jnp.full((1, 2), 32, jnp.int32), image[:, None], jnp.asarray([[[0.0, 0.0, 1.0, 1.0]]])
