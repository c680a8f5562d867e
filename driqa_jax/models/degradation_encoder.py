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


class Degradation(NamedTuple):
    """The output of `E_d` for M tiles; the last three are None without `DegradationEncoder.names`."""

    tokens: jax.Array  # (M, N, C), N = (side / 32)^2
    vector: jax.Array  # (M, C)
    projection: jax.Array | None  # (M, C / 2), only for the contrast loss
    logits: jax.Array | None  # (M, T), a sigmoid each because a chain has several types
    severity: jax.Array | None  # (M, T) in [0, 1]


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

    @nn.compact
    def __call__(self, tiles: jax.Array) -> Degradation:
        """`tiles` (M, H, W, 3) float in [0, 1], sides divisible by 32."""
        # Group norm removes amplitude and with it much of the strength of noise. The first layer therefore has none,
        # and its moments go directly to the vector.
        x = nn.leaky_relu(Conv(self.channels[0], (3, 3), kernel_init=spectral_init, name="full")(tiles * 2 - 1), 0.1)
        mean = x.mean(axis=(1, 2))
        spread = jnp.log(x.var(axis=(1, 2)) + 1e-5)
        for number, channels in enumerate((*self.channels[1:], self.width), start=1):
            x = Conv(channels, (3, 3), strides=2, use_bias=False, name=f"conv{number}")(x)
            x = nn.leaky_relu(nn.GroupNorm(num_groups=8, name=f"norm{number}")(x), 0.1)
        tokens = x.reshape(x.shape[0], -1, self.width)
        pooled = [tokens.mean(axis=1), deviation(tokens), mean, spread]
        if self.statistics:
            known = Standardize(name="standardize_statistics")(signal_statistics(tiles))
            pooled.append(nn.gelu(Dense(2 * self.width, name="statistics")(known)))
        pooled = jnp.concatenate(pooled, axis=-1)
        vector = nn.LayerNorm(name="vector_norm")(MLP(features=self.width, ratio=1, name="vector")(pooled))
        if not self.names:
            return Degradation(tokens, vector, None, None, None)
        projection = MLP(features=self.width // 2, ratio=1, name="projection")(vector)
        logits, severity = (Dense(self.types, name=name)(vector) for name in ("logits", "severity"))
        return Degradation(tokens, vector, projection, logits, nn.sigmoid(severity))
