"""Runs a model's programs in JAX. With a cached executable it imports neither Flax nor the model."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.checkpoints.load import LoadedModel, plain_config, require_params
from driqa_jax.checkpoints.weights import Params, bundled_files
from driqa_jax.errors import UserError
from driqa_jax.inference.effort import Look
from driqa_jax.inference.executables import Program, digest_of, shapes_of
from driqa_jax.inference.program import make_stages
from driqa_jax.inference.stream import cores
from driqa_jax.io import write_bytes
from driqa_jax.provenance import PACKAGES

# On a CPU batches are not faster than single images, and a single image starts at once.
_BATCH_ON_CPU, _BATCH_ON_ACCELERATORS = 1, 16

Views = Mapping[str, np.ndarray]


class JaxExecutor:
    """A model on one device of JAX.

    Attributes: `name` of the runtime; `device`, and `described`, the device in words; `on_cpu`, whether batches gain
    nothing; `params` on the device; `batch_size`, the best number of images per call on it; `parallel`, how many
    threads may call `predictions`.

    Args:
      model: as for `driqa_jax.Scorer`.
      params: nested dict of float32 arrays.
      config: `metadata["config"]`, which must describe the model fully if there is a `cache`.
      looked: from `driqa_jax.inference.effort.look`.
      device, cache: as for `driqa_jax.Scorer`.
      naming: whether predictions end with the prominence of the types.
    """

    name, packages = "jax", PACKAGES

    def __init__(
        self,
        model: Any,
        params: Params,
        config: Any,
        looked: Look,
        device: jax.Device | None = None,
        cache: pathlib.Path | None = None,
        naming: bool = False,
    ):
        self._source, self._looked = model, looked
        self.device = jax.devices()[0] if device is None else device
        self.described = f"{self.device.platform}: {self.device.device_kind}"
        self.params = jax.device_put(params, self.device)
        self.on_cpu = on_cpu = self.device.platform == "cpu"
        self.batch_size = _BATCH_ON_CPU if on_cpu else _BATCH_ON_ACCELERATORS
        self.parallel = cores() if on_cpu else 1
        self.program = Program(
            lambda: make_stages(self.model, looked.mirror, on_cpu, naming),
            self.device,
            cache,
            identity=[plain_config(config), looked.mirror, on_cpu, *(["naming"] if naming else [])],
        )

    @functools.cached_property
    def model(self) -> Any:
        """The module, built on first use."""
        return self._source if hasattr(self._source, "apply") else self._source()

    def predictions(self, views: Views) -> Any:
        """(B, 1 + N) float32 of a batch of views, possibly still being computed, see `make_stages`."""
        found = self.program(self.params, views)
        # On other devices the thread can launch the next program while this one runs.
        return jax.block_until_ready(found) if self.on_cpu else found

    def intermediates(self, views: Views) -> dict[str, np.ndarray]:
        """What an explanation needs of a batch of views, see `driqa_jax.inference.explain.Explainer`."""
        out = self.explaining(self.params, jax.device_put(dict(views), self.device))
        return {key: np.asarray(value) for key, value in out.items()}

    def restored(self, tiles: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Restored tiles, float, of `tiles` (M, S, S, 3) uint8 with degradation vectors `d` (M, C)."""
        return np.asarray(self.restoring(self.params, *jax.device_put((tiles, d), self.device)))

    @property
    def restores(self) -> bool:
        """Whether the model has a restoration network."""
        return getattr(self.model, "restores", True)

    @property
    def explained_tiles(self) -> int:
        """The least number of tiles for an explanation."""
        return getattr(self.model, "explained_tiles", 1)

    def apply(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `driqa_jax.Scorer.apply`."""
        return self._applied(self.params, images)

    @functools.cached_property
    def _applied(self) -> Callable[[Params, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
        from driqa_jax.inference.functional import predict

        return jax.jit(lambda params, images: predict(self.model, params, images, *self._looked))

    @functools.cached_property
    def explaining(self) -> Any:
        """The jitted function behind `intermediates`, one program per canvas."""

        def run(params, batch):
            whole, tiles = (batch[key].astype(jnp.float32) / 255.0 for key in ("whole", "tiles"))
            views = whole, batch["valid"], tiles, batch["tile_boxes"]
            _, out = self.model.apply({"params": params}, *views)
            found = {"visibility": out["visibility"]} if "visibility" in out else {}
            if "drops" in out:
                found |= {"prominence": out["cell_visibility"], "strength": out["drops"]}
            elif hasattr(self.model, "stages"):
                found |= self._by_tile(params, tiles)
            return {
                **found,
                "scores": out["patch_scores"],
                "weights": out["patch_weights"],
                "probabilities": jax.nn.sigmoid(out["degradation_logits"]),
                "severities": out["severity"],
                "d": out["d"],
                "q": out["q"],
            }

        return jax.jit(run)

    def _by_tile(self, params, tiles):
        flat = tiles.reshape(-1, *tiles.shape[2:])
        encoded = self.model.apply({"params": params}, flat, method="encode_degradation")
        found = {"prominence": jax.nn.sigmoid(encoded.logits), "strength": encoded.severity}
        return {key: value.reshape(*tiles.shape[:2], -1) for key, value in found.items()}

    @functools.cached_property
    def restoring(self) -> Any:
        """The jitted function behind `restored`."""

        def run(params, tiles, d):
            return self.model.apply({"params": params}, tiles.astype(jnp.float32) / 255.0, d, method="restore")

        return jax.jit(run)


def checked_model(loaded: LoadedModel, name: str, cache: pathlib.Path | None) -> Callable[[], Any]:
    """A function that builds the model of loaded weights, whose tensors have been compared with the model's.

    Tracing the model to compare them takes a second, so the cache remembers what fits, and a test has compared those of
    bundled weights. Raises WeightsError as `require_params` does.
    """

    if loaded.file is None or loaded.file == bundled_files().get(name):
        return loaded.build
    seen = cache / f"fits-{digest_of([loaded.metadata['config'], shapes_of(loaded.params)])}" if cache else None
    if seen is None or not seen.exists():
        require_params(loaded, loaded.build())
        if seen:
            with contextlib.suppress(UserError):  # the next start compares again
                write_bytes(seen, b"")
    return loaded.build
