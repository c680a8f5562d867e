"""Degradation encoder `E_d`: native-resolution tiles to degradation tokens and a degradation vector.

It combines a small strided network without pretraining and fixed signal statistics, because it must see what happened
to the pixels, not objects.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.models.layers import MLP, Dense, Standardize, deviation
from driqa_jax.models.precision import Conv
from driqa_jax.models.signal_statistics import cosines, signal_statistics

EARLY = 3  # strided layers that a tuning of the late ones leaves as they are


class Degradation(NamedTuple):
    """The output of `E_d` for M tiles; the last three are None without `DegradationEncoder.names`."""

    tokens: jax.Array  # (M, N, C), N = (side / 32)^2
    vector: jax.Array  # (M, C)
    projection: jax.Array | None  # (M, C / 2), only for the contrast loss
    logits: jax.Array | None  # (M, T), a sigmoid each because a chain has several types
    severity: jax.Array | None  # (M, T) in [0, 1]


class Early(NamedTuple):
    """What the early layers make of M tiles: the first, `EARLY` strided ones and the statistics."""

    maps: jax.Array  # (M, H / 8, W / 8, C')
    moments: jax.Array  # (M, 2 C''), of the first layer
    statistics: jax.Array | None  # (M, 582), standardized; None for an encoder without them


def spectral_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Initialize a first layer as the 3x3 DCT of luma, then of the color differences, low frequencies first.

    Random filters on raw pixels see mostly brightness and learn high frequencies late, although noise, blur and
    compression show there. Forensics starts from fixed high-pass filters for that reason (Fridrich and Kodovsky, 2012).
    `key` is unused. Raises ValueError unless `shape` is (3, 3, 3, F) with F up to 27.
    """
    if shape[:3] != (3, 3, 3) or shape[3] > 27:
        raise ValueError(f"a spectral layer must be (3, 3, 3, F) with F up to 27, got {shape}")
    line = cosines(3)
    colors = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
    colors = colors / np.linalg.norm(colors, axis=1, keepdims=True)
    order = sorted(((c > 0) * (3 + u + v), c, u + v, u, v) for c in range(3) for u in range(3) for v in range(3))
    # The nine luma filters come first, then means and gradients of the color differences.
    filters = [np.einsum("i,j,c->ijc", line[u], line[v], colors[c]) for _, c, _, u, v in order[: shape[3]]]
    return jnp.asarray(np.stack(filters, axis=-1), dtype)


class DegradationEncoder(nn.Module):
    """The encoder and its heads."""

    width: int  # C
    types: int  # T, the number of degradation types of the naming head
    # Whether the vector also reads `signal_statistics`. With them, 16,000 training images name degradations better
    # than 100,000 without.
    statistics: bool = True
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)  # of the full-resolution layer and the strided ones but the last
    names: bool = True  # whether the heads that only the training of `E_d` and the naming of degradations need exist

    def setup(self):
        # Group norm removes amplitude and with it much of the strength of noise. The first layer therefore has none,
        # and its moments go directly to the vector.
        self.full = Conv(self.channels[0], (3, 3), kernel_init=spectral_init)
        for number, channels in enumerate((*self.channels[1:], self.width), start=1):
            setattr(self, f"conv{number}", Conv(channels, (3, 3), strides=2, use_bias=False))
            setattr(self, f"norm{number}", nn.GroupNorm(num_groups=8))
        if self.statistics:
            self.standardize_statistics = Standardize()
            self.of_statistics = Dense(2 * self.width, name="statistics")
        self.vector, self.vector_norm = MLP(features=self.width, ratio=1), nn.LayerNorm()
        if self.names:
            self.projection = MLP(features=self.width // 2, ratio=1)
            self.logits, self.severity = Dense(self.types), Dense(self.types)

    def __call__(self, tiles: jax.Array) -> Degradation:
        """`tiles` (M, H, W, 3) float in [0, 1], sides divisible by 32."""
        tokens, vector = self.late(self.early(tiles))
        if not self.names:
            return Degradation(tokens, vector, None, None, None)
        severity = nn.sigmoid(self.severity(vector))
        return Degradation(tokens, vector, self.projection(vector), self.logits(vector), severity)

    def early(self, tiles: jax.Array) -> Early:
        """What the late layers read of `tiles`."""
        x = nn.leaky_relu(self.full(tiles * 2 - 1), 0.1)
        moments = jnp.concatenate([x.mean(axis=(1, 2)), jnp.log(x.var(axis=(1, 2)) + 1e-5)], axis=-1)
        known = self.standardize_statistics(signal_statistics(tiles)) if self.statistics else None
        return Early(self._strided(x, 1, EARLY), moments, known)

    def late(self, early: Early) -> tuple[jax.Array, jax.Array]:
        """Tokens (M, N, C) and vectors (M, C)."""
        x = self._strided(early.maps, EARLY + 1, len(self.channels))
        tokens = x.reshape(x.shape[0], -1, self.width)
        pooled = [tokens.mean(axis=1), deviation(tokens), early.moments]
        if self.statistics:
            pooled.append(nn.gelu(self.of_statistics(early.statistics)))
        return tokens, self.vector_norm(self.vector(jnp.concatenate(pooled, axis=-1)))

    def _strided(self, x, first, last):
        for number in range(first, last + 1):
            x = getattr(self, f"norm{number}")(getattr(self, f"conv{number}")(x))
            x = nn.leaky_relu(x, 0.1)
        return x
