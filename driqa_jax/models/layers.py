"""Layers that several parts share: dense, FiLM, attention, positions, per-example dropout, masked pooling."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Dense(nn.Module):
    """`flax.linen.Dense` over the last axis, computed on flattened rows in the dtype of its kernel.

    On CPUs the kernel gradient with several leading axes is three times slower than with one.
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x` (..., C) -> (..., features)."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        rows = x.reshape(-1, x.shape[-1]).astype(kernel.dtype) @ kernel + bias[None, :]
        return rows.reshape(*x.shape[:-1], self.features)


class FiLM(nn.Module):
    """Scale and shift features by a condition, `x * (1 + gamma(c)) + beta(c)`; initialized as the identity.

    Without `scale`, `x + beta(c)`, with half the parameters.
    Source: Perez et al., AAAI 2018; the zero initialization as in ControlNet-like conditioning. The shift alone is how
    the authors' earlier restorer (arXiv 2305.03997) injects its vector.
    """

    scale: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """`x` (B, ..., C), `condition` (B, K) -> (B, ..., C)."""
        features, name = (2 * x.shape[-1], "film") if self.scale else (x.shape[-1], "add")
        film = Dense(features, kernel_init=nn.initializers.zeros, name=name)(condition)
        film = film.reshape(film.shape[0], *(1,) * (x.ndim - 2), features)
        if not self.scale:
            return x + film
        gamma, beta = jnp.split(film, 2, axis=-1)
        return x * (1 + gamma) + beta


Add = functools.partial(FiLM, scale=False)


class Standardize(nn.Module):
    """Shift and scale every feature by constants measured once on training photos (see `train/initialization.py`).

    Raw features of the stages differ by orders of magnitude, and no single learning rate fits them all.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        shift = self.param("shift", nn.initializers.zeros, (x.shape[-1],)).reshape(shape)
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],)).reshape(shape)
        # A feature that hardly varied on the measured photos can be an extreme outlier on another one.
        return jnp.clip((x - shift) * scale, -8.0, 8.0)


class CrossAttention(nn.Module):
    """Multi-head attention of one set of tokens over another; `heads` must divide the width of the queries."""

    heads: int

    @nn.compact
    def __call__(self, queries: jax.Array, keys: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
        """`queries` (B, N, C), `keys` (B, M, C), `key_mask` (B, M) bool, true for valid keys -> (B, N, C)."""
        batch, count, width = queries.shape
        split = (self.heads, width // self.heads)
        q = Dense(width, name="query")(queries).reshape(batch, count, *split)
        k = Dense(width, name="key")(keys).reshape(batch, keys.shape[1], *split)
        v = Dense(width, name="value")(keys).reshape(batch, keys.shape[1], *split)
        logits = jnp.einsum("bnhc,bmhc->bhnm", q, k, preferred_element_type=jnp.float32) / np.sqrt(split[1])
        if key_mask is not None:
            logits = jnp.where(key_mask[:, None, None, :], logits, -1e9)
        mixed = jnp.einsum("bhnm,bmhc->bnhc", nn.softmax(logits).astype(v.dtype), v)
        return Dense(width, name="out")(mixed.reshape(batch, count, width))


class MLP(nn.Module):
    """Dense, GELU (by tanh if `approximate`), dense; the hidden layer is `ratio` times as wide as the input."""

    ratio: int = 2
    features: int | None = None
    approximate: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.gelu(Dense(self.ratio * x.shape[-1], name="hidden")(x), approximate=self.approximate)
        return Dense(self.features or x.shape[-1], name="out")(hidden)


def sincos_positions(coordinates: jax.Array, width: int) -> jax.Array:
    """Two-dimensional sine-cosine position embeddings at any place of an image: (B, N, width) float in [-1, 1].

    They let cross-attention align tokens of two views: one place has one embedding in both. `coordinates` (B, N, 2)
    float are row and column as fractions of the image; `width` is divisible by 4.
    Source: MAE / ViT code, with 32 units along each side of the image.
    """
    frequencies = jnp.asarray(32.0 / 1000.0 ** (np.arange(width // 4) / (width // 4)), coordinates.dtype)
    angles = coordinates[..., None] * frequencies[None, None, None, :]
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(*coordinates.shape[:2], width)


def grid_coordinates(boxes: jax.Array, height: int, width: int) -> jax.Array:
    """Centers of a grid of height x width cells inside boxes, in row-major order.

    `boxes` (B, 4) float, y0, x0, y1, x1 as fractions of the image -> (B, height * width, 2) float, row and column.
    """
    rows, cols = (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width
    cells = jnp.stack(jnp.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(1, -1, 2)
    start, end = boxes[:, None, :2], boxes[:, None, 2:]
    return start + cells * (end - start)


def cell_coordinates(valid: jax.Array, rows: int, columns: int, stride: int) -> jax.Array:
    """Centers of the cells of a canvas of `rows` x `columns` cells with sides of `stride` pixels.

    `valid` (B, 2), rows and columns of pixels that the image covers -> (B, rows * columns, 2) float, row and column as
    fractions of the image; above 1 where the canvas is padded.
    """
    end = jnp.asarray((rows * stride, columns * stride), jnp.float32)[None, :] / valid
    return grid_coordinates(jnp.concatenate([jnp.zeros_like(end), end], axis=-1), rows, columns)


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """Dropout with one random key per example, so that the result does not depend on the number of devices.

    `x` (B, C) float; `keys` (B,) typed random keys, or None for no dropout; `rate` in [0, 1).
    """
    if keys is None or rate == 0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0.0)


def valid_mask(valid: jax.Array, height: int, width: int, stride: int) -> jax.Array:
    """(B, 2) valid rows and columns of the canvas -> (B, height, width, 1) bool for a feature map at `stride`."""
    rows = jnp.arange(height)[None, :, None, None] < (valid[:, 0] // stride)[:, None, None, None]
    cols = jnp.arange(width)[None, None, :, None] < (valid[:, 1] // stride)[:, None, None, None]
    return rows & cols


def average_pool(x: jax.Array, factor: int) -> jax.Array:
    """Mean over factor x factor blocks: (B, H, W, C) -> (B, H / factor, W / factor, C), float32 at least."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return blocks.mean(axis=(2, 4), dtype=jnp.promote_types(x.dtype, jnp.float32))


def deviation(x: jax.Array) -> jax.Array:
    """(B, N, C) -> (B, C), the standard deviation over N, with gradient 0 where it is 0 (with one token, for example).

    The gradient of `jnp.std` is NaN there, and one NaN ends training.
    """
    variance = x.var(axis=1)
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)


def masked_moments(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each channel over the valid pixels.

    `x` (B, H, W, C), `mask` (B, H, W, 1) bool -> two arrays (B, C), float32 at least. The gradient of the deviation is
    finite at zero.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    weight = mask.astype(x.dtype)
    count = weight.sum(axis=(1, 2))
    mean = (x * weight).sum(axis=(1, 2)) / count
    centered = (x - mean[:, None, None, :]) * weight
    return mean, jnp.sqrt(jnp.square(centered).sum(axis=(1, 2)) / count + 1e-6)
