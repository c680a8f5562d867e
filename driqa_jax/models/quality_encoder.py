"""Quality encoder `E_q`: the whole picture, through an ImageNet backbone, to quality tokens and a quality vector.

Quality lives in the early layers as well as in the last: both read-outs see every stage, as means and standard
deviations over the picture (the vector) and as means over cells of 32x32 pixels (the tokens).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import Dense, Standardize, average_pool, dropout, masked_moments, valid_mask

STRIDE = 32


class Quality(NamedTuple):
    """`tokens` (B, N, C); `vector` (B, C); `mask` (B, N) bool, true inside the picture; `mos_aux` (B,)."""

    tokens: jax.Array
    vector: jax.Array
    mask: jax.Array
    mos_aux: jax.Array


class QualityEncoder(nn.Module):
    """Backbone features to quality tokens and vector.

    Attributes:
      backbone: a module (images, valid) -> list of feature maps at strides that divide 32.
      width: C.
      dropout: rate on the pooled features, in training.
    """

    backbone: nn.Module
    width: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, valid: jax.Array, keys: jax.Array | None = None) -> Quality:
        """`images` (B, H, W, 3) in [0, 1]; `valid` (B, 2) int32; `keys` (B,) random keys while training."""
        batch, height, width = images.shape[:3]
        rows, cols = height // STRIDE, width // STRIDE
        moments, cells = [], []
        for feature in self.backbone(images, valid):
            stride = height // feature.shape[1]
            mask = valid_mask(valid, feature.shape[1], feature.shape[2], stride)
            moments.extend(masked_moments(feature, mask))
            cells.append(average_pool(feature, STRIDE // stride))
        pooled = Standardize(name="standardize_vector")(jnp.concatenate(moments, axis=-1))
        vector = Dense(self.width, name="vector")(dropout(pooled, keys, self.dropout))

        mask = valid_mask(valid, rows, cols, STRIDE).reshape(batch, rows * cols)
        local = jnp.concatenate(cells, axis=-1).reshape(batch, rows * cols, -1)
        local = jnp.where(mask[:, :, None], local, 0.0)
        tokens = Dense(self.width, name="tokens")(Standardize(name="standardize_tokens")(local))
        # Cross-attention never mixes quality tokens with one another: each carries the whole picture from the start.
        tokens = tokens + Dense(self.width, name="spread")(vector)[:, None, :]
        mos_aux = Dense(1, name="mos_aux", bias_init=nn.initializers.constant(0.5))(vector)[:, 0]
        return Quality(tokens, vector, mask, mos_aux)
