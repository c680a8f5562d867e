"""Restoration net `R`: an image and its degradation vector to the restored image.

A NAFNet-style U-Net (Chen et al., ECCV 2022) on pixel-unshuffled input, since at full resolution it would cost more
than all other parts together. The degradation vector modulates every decoder level. The net also reads the 3x3 median
and learns where to mix it in, which removes impulse noise after few training steps.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.errors import UserError
from driqa_jax.models.layers import Dense, FiLM, average_pool
from driqa_jax.models.ops import depthwise_conv, median3
from driqa_jax.models.precision import Conv


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """(B, H, W, C) -> (B, H / factor, W / factor, C * factor^2)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // factor, width // factor, -1)


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """The inverse of `pixel_unshuffle`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, factor, factor, channels // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, -1)


class NAFBlock(nn.Module):
    """Gated convolutions with simplified channel attention; both residuals start at zero."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = Dense(2 * channels, name="expand")(nn.LayerNorm(name="norm1")(x))
        fan = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1), out_axis=())
        y = depthwise_conv(y, self.param("depthwise", fan, (3, 3, 2 * channels)))
        a, b = jnp.split(y, 2, axis=-1)
        y = a * b
        y = y * Dense(channels, name="attention")(y.mean(axis=(1, 2), keepdims=True))
        y = Dense(channels, name="project")(y)
        x = x + y * self.param("beta", nn.initializers.zeros, (channels,))[None, None, None, :]
        y = Dense(2 * channels, name="feed")(nn.LayerNorm(name="norm2")(x))
        a, b = jnp.split(y, 2, axis=-1)
        y = Dense(channels, name="forward")(a * b)
        return x + y * self.param("gamma", nn.initializers.zeros, (channels,))[None, None, None, :]


class RestorationNet(nn.Module):
    """The U-Net."""

    width: int = 24  # channels of the first level; each level down doubles them
    encoder: tuple[int, ...] = (1, 1)  # blocks of each level; the decoder has as many levels with one block each
    middle: int = 3  # blocks at the bottom
    unshuffle: int = 2  # factor of the pixel unshuffle at the input
    inject: Callable = FiLM  # the layer that injects the degradation vector, `FiLM` or one with its signature
    condition: Callable = lambda d: d  # noqa: E731  # applied to that vector first
    median: bool = True  # whether the net reads and mixes in the median
    remat: bool = False  # whether to recompute each block in the backward pass to save memory

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Restore `images` (M, H, W, 3) float in [0, 1] with the degradation vectors `condition` (M, C).

        Sides must be divisible by `unshuffle * 2^len(encoder)`. Returns the restored images, (M, H, W, 3), not clipped,
        and the decoder levels, coarse to fine, each (M, h, w, c). The last level is the absolute residual at the
        unshuffled resolution.
        """
        condition = self.condition(condition)
        x = pixel_unshuffle(images, self.unshuffle)
        outputs = x.shape[-1]
        if self.median:
            smoother = pixel_unshuffle(median3(images) - images, self.unshuffle)
            x = jnp.concatenate([x, smoother], axis=-1)
        x = Conv(self.width, (3, 3), name="entrance")(x)
        block_class = nn.remat(NAFBlock) if self.remat else NAFBlock
        skips = []
        for level, blocks in enumerate(self.encoder):
            for block in range(blocks):
                x = block_class(name=f"down{level}_block{block}")(x)
            skips.append(x)
            x = Conv(2 * x.shape[-1], (2, 2), strides=2, name=f"down{level}")(x)
        for block in range(self.middle):
            x = block_class(name=f"middle_block{block}")(x)
        x = self.inject(name="middle_film")(x, condition)
        levels = [x]
        for level, skip in reversed(list(enumerate(skips))):
            x = pixel_shuffle(Dense(2 * x.shape[-1], name=f"up{level}")(x), 2) + skip
            x = self.inject(name=f"up{level}_film")(block_class(name=f"up{level}_block")(x), condition)
            levels.append(x)
        residual = Conv(outputs, (3, 3), kernel_init=nn.initializers.zeros, name="exit")(x)
        if self.median:
            residual += smoother * Conv(outputs, (3, 3), kernel_init=nn.initializers.zeros, name="mix")(x)
        levels.append(jnp.abs(residual))
        return images + pixel_shuffle(residual, self.unshuffle), levels


def pooled(levels: list[jax.Array], grid: int) -> list[jax.Array]:
    """Mean of each level (M, h, w, c), h divisible by `grid`, over a grid of cells: (M, grid, grid, c)."""
    return [average_pool(level, level.shape[1] // grid) for level in levels]


class RestorationTokens(nn.Module):
    """The decoder levels, pooled to the token grid and projected, for the predictor.

    Source: VCRNet (Pan et al., TIP 2022) passes decoder features to its quality network in the same way.
    """

    width: int

    @nn.compact
    def __call__(self, levels: list[jax.Array], grid: int) -> jax.Array:
        """Levels (M, h, w, c), h divisible by `grid` -> (M, grid^2, width)."""
        cells = [nn.LayerNorm(name=f"norm{i}")(x) for i, x in enumerate(pooled(levels, grid))]
        cells = jnp.concatenate(cells, axis=-1)
        return Dense(self.width, name="project")(cells.reshape(cells.shape[0], grid * grid, -1))


def require_restorer(params: Mapping[str, Any], name: str = "the model") -> None:
    """Raises UserError unless the parameters of a model hold a restoration network."""
    if "restoration" not in params:
        raise UserError(f"{name} has no restoration network; give a model that has one, such as --model lite-0.5")
