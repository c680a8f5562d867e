"""Dual-representation interaction: degradation and quality read each other.

The vectors act as class tokens, because attention between two single vectors is degenerate: a softmax over one key is
1. Both directions start from the same previous state, so neither representation goes first.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import MLP, CrossAttention, Dense

Mask = jax.Array | None  # (B, N) bool, true for valid tokens; None: all are valid


class Attention(CrossAttention):
    """Attention over the other representation, or over its own: the control, with the same number of parameters."""

    itself: bool = False

    def __call__(self, own: jax.Array, other: jax.Array, own_mask: Mask = None, other_mask: Mask = None) -> jax.Array:
        """`own` (B, N, C), `other` (B, M, C), masks (B, N) and (B, M) bool -> (B, N, C), like every reader."""
        return super().__call__(own, own, own_mask) if self.itself else super().__call__(own, other, other_mask)


class Gate(nn.Module):
    """Scale every token per channel by a function of the other vector; as many parameters as attention."""

    heads: int

    @nn.compact
    def __call__(self, own: jax.Array, other: jax.Array, own_mask: Mask = None, other_mask: Mask = None) -> jax.Array:
        """As `Attention`."""
        return own * nn.sigmoid(MLP(name="gate")(other[:, :1]))


class Concatenation(nn.Module):
    """Two dense layers over every token and the other vector; as many parameters as attention, within 0.3 %."""

    heads: int

    @nn.compact
    def __call__(self, own: jax.Array, other: jax.Array, own_mask: Mask = None, other_mask: Mask = None) -> jax.Array:
        """As `Attention`."""
        width = own.shape[-1]
        both = jnp.concatenate([own, jnp.broadcast_to(other[:, :1], own.shape)], axis=-1)
        return Dense(width, name="out")(nn.gelu(Dense(round(4 * width / 3), name="hidden")(both)))


_Itself = functools.partial(Attention, itself=True)
# The readers of `q` and of `d` for each value of the switch `interaction`.
READERS = {
    "both": (Attention, Attention),
    "d2q": (Attention, _Itself),
    "q2d": (_Itself, Attention),
    "gate": (Gate, Gate),
    "concat": (Concatenation, Concatenation),
    "none": (_Itself, _Itself),
}


class InteractionBlock(nn.Module):
    """One pre-norm block: each representation reads, then passes its own feed-forward layer."""

    heads: int
    q_reads: Callable = Attention
    d_reads: Callable = Attention

    @nn.compact
    def __call__(self, d: jax.Array, q: jax.Array, q_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`d` (B, 1 + N, C), `q` (B, 1 + N', C), `q_mask` (B, 1 + N') bool -> `d` and `q` of the same shapes."""
        d_norm, q_norm = nn.LayerNorm(name="d_norm")(d), nn.LayerNorm(name="q_norm")(q)
        q = q + self.q_reads(self.heads, name="q_reads_d")(q_norm, d_norm, own_mask=q_mask)
        d = d + self.d_reads(self.heads, name="d_reads_q")(d_norm, q_norm, other_mask=q_mask)
        q = q + MLP(name="q_mlp")(nn.LayerNorm(name="q_mlp_norm")(q))
        d = d + MLP(name="d_mlp")(nn.LayerNorm(name="d_mlp_norm")(d))
        return d, q


class Interaction(nn.Module):
    """`layers` interaction blocks with `heads` attention heads; `readers` of `q` and `d` are a value of `READERS`."""

    heads: int
    layers: int = 2
    readers: tuple[Callable, Callable] = READERS["both"]

    @nn.compact
    def __call__(
        self, d: jax.Array, tokens_d: jax.Array, q: jax.Array, tokens_q: jax.Array, mask_q: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """`d` (B, C), `tokens_d` (B, N, C), `q` (B, C), `tokens_q` (B, N', C), `mask_q` (B, N') bool.

        Returns d~, D~, q~, Q~ of the same shapes.
        """
        left = jnp.concatenate([d[:, None, :], tokens_d], axis=1)
        right = jnp.concatenate([q[:, None, :], tokens_q], axis=1)
        mask = jnp.concatenate([jnp.ones_like(mask_q[:, :1]), mask_q], axis=1)
        for layer in range(self.layers):
            left, right = InteractionBlock(self.heads, *self.readers, name=f"block{layer}")(left, right, mask)
        left, right = nn.LayerNorm(name="d_norm")(left), nn.LayerNorm(name="q_norm")(right)
        return left[:, 0], left[:, 1:], right[:, 0], right[:, 1:]
