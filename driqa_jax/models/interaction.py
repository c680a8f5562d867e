"""Dual-representation interaction: degradation and quality read one another.

The vectors ride along as class tokens: attention between two single vectors is degenerate, a softmax over one
key is 1. Both directions start from the same previous state, so neither representation goes first.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import MLP, CrossAttention


class InteractionBlock(nn.Module):
    """One pre-norm block: cross-attention both ways, then a feed-forward each."""

    heads: int

    @nn.compact
    def __call__(self, d: jax.Array, q: jax.Array, q_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`d` (B, 1 + N, C), `q` (B, 1 + N', C), `q_mask` (B, 1 + N') bool -> the same shapes."""
        d_norm, q_norm = nn.LayerNorm(name="d_norm")(d), nn.LayerNorm(name="q_norm")(q)
        q = q + CrossAttention(self.heads, name="q_reads_d")(q_norm, d_norm)
        d = d + CrossAttention(self.heads, name="d_reads_q")(d_norm, q_norm, q_mask)
        q = q + MLP(name="q_mlp")(nn.LayerNorm(name="q_mlp_norm")(q))
        d = d + MLP(name="d_mlp")(nn.LayerNorm(name="d_mlp_norm")(d))
        return d, q


class Interaction(nn.Module):
    """Both ways, `layers` times.

    Attributes:
      heads: attention heads.
      layers: L.
    """

    heads: int
    layers: int = 2

    @nn.compact
    def __call__(self, d, tokens_d, q, tokens_q, mask_q):
        """`d` (B, C), `tokens_d` (B, N, C), `q` (B, C), `tokens_q` (B, N', C), `mask_q` (B, N') bool.

        Returns d~, D~, q~, Q~ of the same shapes.
        """
        left = jnp.concatenate([d[:, None, :], tokens_d], axis=1)
        right = jnp.concatenate([q[:, None, :], tokens_q], axis=1)
        mask = jnp.concatenate([jnp.ones_like(mask_q[:, :1]), mask_q], axis=1)
        for layer in range(self.layers):
            left, right = InteractionBlock(self.heads, name=f"block{layer}")(left, right, mask)
        left, right = nn.LayerNorm(name="d_norm")(left), nn.LayerNorm(name="q_norm")(right)
        return left[:, 0], left[:, 1:], right[:, 0], right[:, 1:]
