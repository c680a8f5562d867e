"""Vision Transformer as a backbone: the tokens of several blocks, as maps at stride 16, the same on every canvas.

Source: Dosovitskiy et al., ICLR 2021, in the form of the public weights of Steiner et al., TMLR 2022 ("augreg"): a
class token, learned positions of a 14x14 grid, pre-norm blocks, exact GELU as timm has it, input `2 x - 1`. Weights
come from a local file, see `vit_files`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import MLP, CrossAttention, Dense, valid_mask
from driqa_jax.models.restoration import pixel_unshuffle

PATCH = 16
GRID = 14  # of the learned positions: pictures of 224x224


def positions_at(grid: jax.Array, cells: jax.Array, rows: int, cols: int) -> jax.Array:
    """Learned positions at the cells of pictures of any size; a 14x14 picture gets them as they are.

    Bicubic with antialiasing (Keys' a = -1/2), as timm and Pillow resize. A picture has its own, whatever its canvas.

    Args:
      grid: (14, 14, C) float.
      cells: (B, 2) int, rows and columns of each picture, at least 1.
      rows, cols: of the canvas.

    Returns:
      (B, rows, cols, C), float32 at least; outside the picture they have no meaning.
    """
    grid = grid.astype(jnp.promote_types(grid.dtype, jnp.float32))

    def one(size):
        shape = (rows, cols, grid.shape[-1])
        scale = size / jnp.asarray(grid.shape[:2], jnp.float32)
        return jax.image.scale_and_translate(grid, shape, (0, 1), scale, jnp.zeros(2), "cubic")

    return jax.vmap(one)(cells)


class Block(nn.Module):
    """Self-attention, then a feed-forward four times as wide; each on normalised tokens, each added."""

    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """`tokens` (B, N, C), `mask` (B, N) bool, true where a token counts as a key -> (B, N, C)."""
        x = nn.LayerNorm(name="attention_norm")(tokens)
        tokens = tokens + CrossAttention(self.heads, name="attention")(x, x, mask)
        x = nn.LayerNorm(name="mlp_norm")(tokens)
        return tokens + MLP(ratio=4, approximate=False, name="mlp")(x)


class ViT(nn.Module):
    """The backbone; it computes in the dtype of its parameters.

    Called with images (B, H, W, 3) float in [0, 1], sides divisible by 16, and `valid` (B, 2) int, the rows and
    columns that hold picture (multiples of 16). Returns a map (B, H / 16, W / 16, width) for each of `levels`. The
    last of them has passed the network's last norm, others are the residual stream. Values outside the valid part
    have no meaning, and no influence on those inside.

    Attributes:
      width: channels of a token.
      heads: of attention; divides `width`.
      levels: blocks, counted from 1, whose output is returned; the last of them is the last block.
    """

    width: int
    heads: int
    levels: tuple[int, ...] = (3, 6, 9, 12)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return (self.width,) * len(self.levels)

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        return self.levels[-1]

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        batch, rows, cols = images.shape[0], images.shape[1] // PATCH, images.shape[2] // PATCH
        inside = valid_mask(valid, rows, cols, PATCH)
        patches = jnp.where(inside, pixel_unshuffle(images * 2 - 1, PATCH), 0.0)
        grid = self.param("positions", nn.initializers.normal(0.02), (GRID, GRID, self.width))
        x = Dense(self.width, name="patch")(patches)
        x = x + positions_at(grid, valid // PATCH, rows, cols).astype(x.dtype)
        # Its own position, which no size of picture changes, is part of it.
        first = self.param("class_token", nn.initializers.normal(0.02), (self.width,)).astype(x.dtype)
        first = jnp.broadcast_to(first[None, None, :], (batch, 1, self.width))
        x = jnp.concatenate([first, x.reshape(batch, rows * cols, self.width)], axis=1)
        mask = jnp.concatenate([jnp.ones((batch, 1), bool), inside.reshape(batch, rows * cols)], axis=1)

        features = []
        for number in range(1, self.depth + 1):
            x = Block(self.heads, name=f"block{number}")(x, mask)
            if number == self.depth:
                x = nn.LayerNorm(name="norm")(x)
            if number in self.levels:
                features.append(x[:, 1:].reshape(batch, rows, cols, self.width))
        return features
