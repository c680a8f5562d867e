"""Vision Transformer as a backbone: tokens of several blocks, as maps at stride 16, independent of the canvas.

Source: Dosovitskiy et al., ICLR 2021, in the form of the public weights of Steiner et al., TMLR 2022 ("augreg"): a
class token, learned positions of a 14x14 grid, pre-norm blocks, exact GELU as in timm, input `2 x - 1`.
`pretrained.read_vit` reads weights from a local file.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import MLP, CrossAttention, Dense, valid_mask
from driqa_jax.models.restoration import pixel_unshuffle

PATCH = 16
GRID = 14  # side of the grid of learned positions, for 224x224 images


def positions_at(grid: jax.Array, cells: jax.Array, rows: int, cols: int) -> jax.Array:
    """Learned positions resized to images of any size; an image of 14x14 cells gets them unchanged.

    Bicubic with antialiasing (Keys' a = -1/2), as in timm and Pillow. They depend on the image, not on its canvas.
    `grid` (14, 14, C) float, `cells` (B, 2) int, rows and columns of each image, at least 1; `rows` and `cols` are
    those of the canvas. Returns (B, rows, cols, C), float32 at least; undefined outside the image.
    """
    grid = grid.astype(jnp.promote_types(grid.dtype, jnp.float32))

    def resized(size: jax.Array) -> jax.Array:
        shape = (rows, cols, grid.shape[-1])
        scale = size / jnp.asarray(grid.shape[:2], jnp.float32)
        return jax.image.scale_and_translate(grid, shape, (0, 1), scale, jnp.zeros(2), "cubic")

    return jax.vmap(resized)(cells)


class Block(nn.Module):
    """Pre-norm residual self-attention, then a pre-norm residual feed-forward layer four times as wide."""

    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """`tokens` (B, N, C), `mask` (B, N) bool, true for valid keys -> (B, N, C)."""
        x = nn.LayerNorm(name="attention_norm")(tokens)
        tokens = tokens + CrossAttention(self.heads, name="attention")(x, x, mask)
        x = nn.LayerNorm(name="mlp_norm")(tokens)
        return tokens + MLP(ratio=4, approximate=False, name="mlp")(x)


class ViT(nn.Module):
    """The backbone; it computes in the dtype of its parameters.

    The input is images (B, H, W, 3) float in [0, 1] with sides divisible by 16, and `valid` (B, 2) int, the rows and
    columns that the image covers (multiples of 16). The output is a map (B, H / 16, W / 16, width) for each of
    `levels`: after the final norm for the last one, the residual stream for the others. Values outside the valid part
    are undefined and do not affect those inside.
    """

    width: int  # channels of a token
    heads: int  # of the attention; must divide `width`
    levels: tuple[int, ...] = (3, 6, 9, 12)  # the blocks, from 1, whose output is returned; the last one is the last
    remat: bool = False  # whether to recompute each block in the backward pass to save memory

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of each map."""
        return (self.width,) * len(self.levels)

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return self.levels[-1]

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array) -> list[jax.Array]:
        batch, rows, cols = images.shape[0], images.shape[1] // PATCH, images.shape[2] // PATCH
        inside = valid_mask(valid, rows, cols, PATCH)
        patches = jnp.where(inside, pixel_unshuffle(images * 2 - 1, PATCH), 0.0)
        grid = self.param("positions", nn.initializers.normal(0.02), (GRID, GRID, self.width))
        x = Dense(self.width, name="patch")(patches)
        x = x + positions_at(grid, valid // PATCH, rows, cols).astype(x.dtype)
        # The class token includes its own position, which does not depend on the image size.
        token = self.param("class_token", nn.initializers.normal(0.02), (self.width,)).astype(x.dtype)
        token = jnp.broadcast_to(token[None, None, :], (batch, 1, self.width))
        x = jnp.concatenate([token, x.reshape(batch, rows * cols, self.width)], axis=1)
        mask = jnp.concatenate([jnp.ones((batch, 1), bool), inside.reshape(batch, rows * cols)], axis=1)

        block_class = nn.remat(Block) if self.remat else Block
        features = []
        for number in range(1, self.depth + 1):
            x = block_class(self.heads, name=f"block{number}")(x, mask)
            if number == self.depth:
                x = nn.LayerNorm(name="norm")(x)
            if number in self.levels:
                features.append(x[:, 1:].reshape(batch, rows, cols, self.width))
        return features
