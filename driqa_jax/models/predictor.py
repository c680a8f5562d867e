"""MOS predictor: quality tokens, informed by restoration and degradation, each give a score and a weight.

Source: the patch-weighted head of MANIQA (Yang et al., CVPRW 2022), without its ReLU on the score, which can die.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import MLP, CrossAttention, Dense, FiLM


class MOSPredictor(nn.Module):
    """The predictor, with `heads` attention heads."""

    heads: int

    @nn.compact
    def __call__(
        self, tokens_q: jax.Array, mask_q: jax.Array, tokens_t: jax.Array, tokens_d: jax.Array, d: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return mos (B,), scores (B, N') and weights (B, N'); weights outside the image are 0.

        `tokens_q` (B, N', C), `tokens_d` (B, N, C) and `d` (B, C) come from the interaction; `mask_q` (B, N') bool is
        true inside the image; `tokens_t` (B, N, C) are the restoration tokens.
        """
        context = jnp.concatenate([tokens_t, tokens_d, d[:, None, :]], axis=1)
        read = CrossAttention(self.heads, name="read")(
            nn.LayerNorm(name="q_norm")(tokens_q), nn.LayerNorm(name="context_norm")(context)
        )
        x = FiLM(name="film")(nn.LayerNorm(name="norm")(tokens_q + read), d)
        x = x + MLP(name="mlp")(nn.LayerNorm(name="mlp_norm")(x))
        small = nn.initializers.normal(0.01)
        middle = nn.initializers.constant(0.5)
        score = Dense(1, kernel_init=small, bias_init=middle, name="score")(x)[:, :, 0]
        weight = nn.sigmoid(Dense(1, kernel_init=small, name="weight")(x)[:, :, 0]) + 1e-3
        weight = jnp.where(mask_q, weight, 0.0)
        return (weight * score).sum(axis=1) / weight.sum(axis=1), score, weight
