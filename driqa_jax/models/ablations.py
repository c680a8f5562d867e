"""Ablations: each switch of a model's configuration picks one part from a dictionary; its first entry is the default.

restoration: what the predictor reads of `R`; "none" is learned tokens. "random_frozen" (`R` at its random
  initialization) and "finetune" (`R` trains in stage 2) differ only in training.
condition, inject: what `R` reads of `E_d`, and how; both need their own pretraining.
degradation: what the interaction reads of `E_d` (`R` always reads the image's own vector). "shuffled" is another
  photo's; with "no_pretrain" `E_d` stays at its random initialization.
quality: the backbone, or learned maps of the same channels.
interaction: which representation reads which, and how.
baseline: backbone and a head of the usual size; no tile reaches the score.

A control replaces an ablated part by one of the same output shapes that ignores the image. Later parts keep their
form, and the model nearly keeps its parameter count, so a row of the table measures the ablation and not the size.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.models.interaction import READERS
from driqa_jax.models.layers import Add, FiLM
from driqa_jax.models.restoration import RestorationTokens

GRID = 7  # tokens along each side of a 224 px tile
_SMALL = nn.initializers.normal(0.02)


def _resized(grid: jax.Array, rows: int, cols: int) -> jax.Array:
    """(GRID, GRID, C) -> (rows, cols, C), like the position embeddings of a ViT at another resolution."""
    return jax.image.resize(grid, (rows, cols, grid.shape[-1]), "linear")


class LearnedTokens(nn.Module):
    """Replaces `RestorationTokens`: learned tokens, equal for all images."""

    width: int

    @nn.compact
    def __call__(self, levels: list[jax.Array], grid: int) -> jax.Array:
        """Levels (M, h, w, c), of which only M matters -> (M, grid^2, width)."""
        tokens = _resized(self.param("tokens", _SMALL, (GRID, GRID, self.width)), grid, grid)
        return jnp.broadcast_to(tokens.reshape(1, grid * grid, -1), (levels[0].shape[0], grid * grid, self.width))


class OwnDegradation(nn.Module):
    """The default, no ablation: `d` and `D` from `E_d`."""

    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`vectors` (B, K, C), `tokens` (B, K, N, C) -> the same shapes, like every choice of this switch."""
        return vectors, tokens


class LearnedDegradation(nn.Module):
    """Learned `d` and `D`, equal for all images. `R` still reads `E_d`."""

    @nn.compact
    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As `OwnDegradation`; N must be a square."""
        side, width = round(tokens.shape[2] ** 0.5), vectors.shape[-1]
        vector = self.param("vector", _SMALL, (width,)).reshape(1, 1, width)
        grid = _resized(self.param("tokens", _SMALL, (GRID, GRID, width)), side, side)
        return jnp.broadcast_to(vector, vectors.shape), jnp.broadcast_to(grid.reshape(1, 1, -1, width), tokens.shape)


class ForeignDegradation(nn.Module):
    """`d` and `D` of another photo: the one half a global batch away. A batch of one keeps its own.

    Half a batch, because consecutive photos of a dataset often show one scene.
    """

    axis: str = "data"  # the mapped axis over which training splits its batch

    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As `OwnDegradation`."""
        return self._rolled(vectors), self._rolled(tokens)

    def _rolled(self, x):
        try:
            devices = lax.axis_size(self.axis)
        except NameError:  # no mapped axis, so the batch is whole
            return jnp.roll(x, x.shape[0] // 2, axis=0)
        rolled = jnp.roll(lax.all_gather(x, self.axis, tiled=True), x.shape[0] * devices // 2, axis=0)
        return lax.dynamic_slice_in_dim(rolled, lax.axis_index(self.axis) * x.shape[0], x.shape[0])


class LearnedMaps(nn.Module):
    """Replaces a backbone: learned feature maps at stride 32, equal for all images."""

    channels: tuple[int, ...]  # those of the backbone's maps, so that the heads after it keep their shapes

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        """As a backbone; only the shape of `images` (B, H, W, 3) matters, and `valid` is ignored."""
        batch, rows, cols = images.shape[0], images.shape[1] // 32, images.shape[2] // 32
        maps = []
        for number, channels in enumerate(self.channels):
            grid = _resized(self.param(f"map{number}", _SMALL, (GRID, GRID, channels)), rows, cols)
            maps.append(jnp.broadcast_to(grid[None], (batch, rows, cols, channels)))
        return maps


SWITCHES: dict[str, dict[Any, Any]] = {
    "restoration": {"full": RestorationTokens, "none": LearnedTokens}
    | dict.fromkeys(("random_frozen", "finetune"), RestorationTokens),
    "condition": {"d": lambda d: d, "none": jnp.zeros_like},
    "inject": {"film": FiLM, "add": Add},
    "degradation": {
        "full": OwnDegradation,
        "none": LearnedDegradation,
        "shuffled": ForeignDegradation,
        "no_pretrain": OwnDegradation,
    },
    "quality": {"full": lambda backbone: backbone.clone(), "none": lambda backbone: LearnedMaps(backbone.channels)},
    "interaction": READERS,
    # The values that it overrides in the other switches.
    "baseline": {False: {}, True: {"restoration": "none", "degradation": "none", "interaction": "none"}},
}
DEFAULTS = {key: next(iter(choices)) for key, choices in SWITCHES.items()}


def chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every switch in `config`; the default if the key is absent, as in older weights.

    Raises ValueError, which names the key and the choices, for an unknown value.
    """
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    for key, value in values.items():
        if value not in SWITCHES[key]:
            raise ValueError(f"model.{key} must be one of {', '.join(map(str, SWITCHES[key]))}, got {value!r}")
    return {**values, **SWITCHES["baseline"][values["baseline"]]}


def parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part that every switch picks. Raises ValueError like `chosen`."""
    return {key: SWITCHES[key][value] for key, value in chosen(config).items()}
