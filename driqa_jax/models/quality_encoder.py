"""Quality encoder `E_q`: the whole image, through an ImageNet backbone, to quality tokens and a quality vector.

Quality shows in early layers as well as in late ones, so both outputs read every stage: the vector reads means and
standard deviations over the image, the tokens read means over cells of 32x32 pixels.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import Dense, Standardize, average_pool, dropout, masked_moments, valid_mask

STRIDE = 32


class Quality(NamedTuple):
    """`tokens` (B, N, C); `vector` (B, C); `mask` (B, N) bool, true inside the image; `mos_aux` (B,)."""

    tokens: jax.Array
    vector: jax.Array
    mask: jax.Array
    mos_aux: jax.Array


class QualityEncoder(nn.Module):
    """Backbone features to quality tokens and vector."""

    backbone: nn.Module  # (images, valid) -> list of feature maps at strides that divide 32
    width: int  # C
    dropout: float = 0.0  # rate on the pooled features in training

    def setup(self) -> None:
        self.standardize_vector, self.standardize_tokens = Standardize(), Standardize()
        self.vector, self.tokens, self.spread = Dense(self.width), Dense(self.width), Dense(self.width)
        self.mos_aux = Dense(1, bias_init=nn.initializers.constant(0.5))

    def __call__(self, images: jax.Array, valid: jax.Array, keys: jax.Array | None = None) -> Quality:
        """`images` (B, H, W, 3) float in [0, 1]; `valid` (B, 2) int32; `keys` (B,) random keys in training."""
        return self.heads(*self.features(images, valid), valid, keys)

    def features(self, images: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Pooled backbone features, before any learned head: means and deviations over the image, (B, F), and means
        over cells, (B, H / 32, W / 32, F'), which are 0 outside the image."""
        height, width = images.shape[1:3]
        moments, cells = [], []
        for feature in self.backbone(images, valid):
            stride = height // feature.shape[1]
            mask = valid_mask(valid, feature.shape[1], feature.shape[2], stride)
            moments.extend(masked_moments(feature, mask))
            cells.append(average_pool(feature, STRIDE // stride))
        inside = valid_mask(valid, height // STRIDE, width // STRIDE, STRIDE)
        return jnp.concatenate(moments, axis=-1), jnp.where(inside, jnp.concatenate(cells, axis=-1), 0.0)

    def moments(self, images: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Means and deviations of the backbone's features: over the image, (B, F) as `features` gives them, and over
        cells, (B, H / 32, W / 32, F''), which are 0 outside the image. Cells leave out the last map, and the deviations
        of maps that have one pixel a cell."""
        height, width = images.shape[1:3]
        features = self.backbone(images, valid)
        pooled, cells = [], []
        for number, feature in enumerate(features, start=1):
            factor = STRIDE // (height // feature.shape[1])
            pooled.extend(masked_moments(feature, valid_mask(valid, *feature.shape[1:3], STRIDE // factor)))
            if number < len(features):
                cells.append(average_pool(feature, factor))
            if number < len(features) and factor > 1:
                variance = average_pool(jnp.square(feature), factor) - jnp.square(cells[-1])
                cells.append(jnp.sqrt(jnp.maximum(variance, 0.0) + 1e-6))
        inside = valid_mask(valid, height // STRIDE, width // STRIDE, STRIDE)
        return jnp.concatenate(pooled, axis=-1), jnp.where(inside, jnp.concatenate(cells, axis=-1), 0.0)

    def heads(self, moments: jax.Array, cells: jax.Array, valid: jax.Array, keys: jax.Array | None = None) -> Quality:
        """Vector, tokens and auxiliary MOS from the output of `features`; `valid` (B, 2) int32."""
        batch, rows, cols = cells.shape[:3]
        vector = self.vector(dropout(self.standardize_vector(moments), keys, self.dropout))
        mask = valid_mask(valid, rows, cols, STRIDE).reshape(batch, rows * cols)
        tokens = self.tokens(self.standardize_tokens(cells.reshape(batch, rows * cols, -1)))
        # Cross-attention never mixes quality tokens with each other, so each one gets the whole image's vector here.
        tokens = tokens + self.spread(vector)[:, None, :]
        return Quality(tokens, vector, mask, self.mos_aux(vector)[:, 0])
