"""What stands where an ablation takes a part away: of the same shapes, and without anything of the picture.

Later parts then keep their form and, nearly, the whole its number of parameters: what a row of the table changes is
what it is named after, and not the size of the model.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.models.layers import CrossAttention

GRID = 7  # tokens along the side of a tile of 224
_SMALL = nn.initializers.normal(0.02)


def _stretched(grid: jax.Array, rows: int, cols: int) -> jax.Array:
    """(GRID, GRID, C) -> (rows, cols, C), as position embeddings of a ViT are brought to another size."""
    return jax.image.resize(grid, (rows, cols, grid.shape[-1]), "linear")


class LearnedTokens(nn.Module):
    """In place of `RestorationTokens`: tokens that are learned and the same for all pictures."""

    width: int

    @nn.compact
    def __call__(self, levels: list[jax.Array], grid: int) -> jax.Array:
        """Of the levels (M, h, w, c) their number alone is read -> (M, grid^2, width)."""
        tokens = _stretched(self.param("tokens", _SMALL, (GRID, GRID, self.width)), grid, grid)
        return jnp.broadcast_to(tokens.reshape(1, grid * grid, -1), (levels[0].shape[0], grid * grid, self.width))


class OwnDegradation(nn.Module):
    """`d` and `D` as `E_d` gave them: no ablation."""

    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`vectors` (B, K, C), `tokens` (B, K, N, C) -> the same shapes, as all that may stand here."""
        return vectors, tokens


class LearnedDegradation(nn.Module):
    """`d` and `D` learned, the same for all pictures. `R` keeps reading what `E_d` gave."""

    @nn.compact
    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As `OwnDegradation`; N is a square."""
        side, width = round(tokens.shape[2] ** 0.5), vectors.shape[-1]
        vector = self.param("vector", _SMALL, (width,)).reshape(1, 1, width)
        grid = _stretched(self.param("tokens", _SMALL, (GRID, GRID, width)), side, side)
        return jnp.broadcast_to(vector, vectors.shape), jnp.broadcast_to(grid.reshape(1, 1, -1, width), tokens.shape)


class ForeignDegradation(nn.Module):
    """`d` and `D` of another photo: the one half a batch away, of the global batch while training.

    Half a batch and not the next, since neighbours in a data set are often of one scene. A batch of one keeps its own.

    Attributes:
      axis: the name of the mapped axis along which a training splits its batch.
    """

    axis: str = "data"

    def __call__(self, vectors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As `OwnDegradation`."""
        return self._foreign(vectors), self._foreign(tokens)

    def _foreign(self, x):
        try:
            devices = lax.axis_size(self.axis)
        except NameError:  # no mapped axis here: the batch is whole
            return jnp.roll(x, x.shape[0] // 2, axis=0)
        everything = lax.all_gather(x, self.axis, tiled=True)
        turned = jnp.roll(everything, x.shape[0] * devices // 2, axis=0)
        return lax.dynamic_slice_in_dim(turned, lax.axis_index(self.axis) * x.shape[0], x.shape[0])


class LearnedMaps(nn.Module):
    """In place of a backbone: feature maps that are learned, at stride 32, the same for all pictures.

    Attributes:
      channels: of the backbone's maps, so that the read-outs after it keep their shapes.
    """

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        """As a backbone; of `images` (B, H, W, 3) the shape alone is read, `valid` not at all."""
        del valid
        batch, rows, cols = images.shape[0], images.shape[1] // 32, images.shape[2] // 32
        maps = []
        for number, channels in enumerate(self.channels):
            grid = _stretched(self.param(f"map{number}", _SMALL, (GRID, GRID, channels)), rows, cols)
            maps.append(jnp.broadcast_to(grid[None], (batch, rows, cols, channels)))
        return maps


class ReadsItself(CrossAttention):
    """A representation that reads itself where it would read the other: attention of as many parameters."""

    def __call__(self, own, other, own_mask=None, other_mask=None):
        """`own` (B, N, C), `own_mask` (B, N) bool or None -> (B, N, C); the others are not looked at."""
        del other, other_mask
        return super().__call__(own, own, own_mask)


def unconditioned(condition: jax.Array) -> jax.Array:
    """In place of the degradation vector that `R` reads: zeros of its shape."""
    return jnp.zeros_like(condition)
