"""Fixed statistics of an image that degradations change; nothing here is learned.

Blur, noise, compression and other degradations change the distribution of pixels, not the content. Forensics and
classical quality measures (rich models, Fridrich and Kodovsky, 2012; BRISQUE, Mittal et al., 2012; blockiness, Wang et
al., 2002) measure this directly, where a network needs a hundred times as many training images to find it. All
statistics are means over the image, so its size and the position of a tile matter little.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Luma, then two color differences.
OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
BLOCK, LAGS, PERIOD, LEVELS = 32, 16, 8, 256
FLAT = 1e-3  # smaller steps between neighboring pixels, a quarter of one of 256 levels, count as flat


def signal_statistics(tiles: jax.Array) -> jax.Array:
    """All statistics of each tile: (M, H, W, 3) float in [0, 1], sides divisible by 32 -> (M, 582) float32.

    Spectra, correlations, grids, histograms and colorfulness, of very different scales (see `Standardize`). Shares and
    histograms have no gradient; the rest does.
    """
    opponent = tiles @ OPPONENT.T
    of_signals = (spectra(opponent), correlations(high_pass(tiles) @ OPPONENT.T), grids(opponent))
    return jnp.concatenate([*of_signals, histograms(tiles), colorfulness(tiles)], axis=1)


def spectra(images: jax.Array) -> jax.Array:
    """Strength and sparsity of each frequency: (M, H, W, C) -> (M, 48 C).

    For every coefficient of a 4x4 DCT, over blocks on two grids: the log of its mean magnitude; the log of its mean
    square relative to that, which is large if few blocks hold most of it; the share of blocks where it is near zero.
    """
    count, _, _, channels = images.shape
    # From the pixels of a block to its DCT coefficients, (16, 16).
    dct = np.einsum("ui,vj->ijuv", cosines(4), cosines(4)).reshape(16, 16).astype(np.float32)
    coefficients = jnp.concatenate([_blocks(images), _blocks(images[:, 2:-2, 2:-2])], axis=2) @ dct
    magnitude = jnp.abs(coefficients)
    strength = jnp.log(magnitude.mean(axis=2) + 1e-4)
    sparsity = jnp.log(jnp.square(coefficients).mean(axis=2) + 1e-7) - 2 * strength
    zeros = (magnitude < 0.002).mean(axis=2)
    return jnp.stack([strength, sparsity, zeros], axis=1).reshape(count, 3 * 16 * channels)


def correlations(images: jax.Array) -> jax.Array:
    """Correlations of neighboring pixels: (M, H, W, C) -> (M, 2 * (16 C + 33 C (C - 1) / 2)).

    Along rows, then along columns: each channel with itself at lags 1 to 16, each pair of channels at lags -16 to 16.
    White noise has none, blur decays slowly, and copies or shifts of a channel add a peak.
    """
    count, _, _, channels = images.shape
    pairs = BLOCK - np.abs(np.arange(-LAGS, LAGS + 1))
    own = np.arange(channels)
    first, second = np.triu_indices(channels, 1)
    rows_and_columns = []
    for along in (images, images.transpose(0, 2, 1, 3)):
        # One matrix product gives every lag within a block of 32 pixels.
        lines = along.reshape(count, -1, BLOCK, channels).transpose(0, 1, 3, 2).reshape(count, -1, channels * BLOCK)
        products = jnp.einsum("mna,mnb->mab", lines, lines) / lines.shape[1]
        products = products.reshape(count, channels, BLOCK, channels, BLOCK).transpose(0, 1, 3, 2, 4)
        lagged = _lagged(products) / pairs[None, None, None, :]
        variance = lagged[:, own, own, LAGS] + 1e-7
        lagged = lagged / jnp.sqrt(variance[:, :, None] * variance[:, None, :])[..., None]
        rows_and_columns.append(lagged[:, own, own, LAGS + 1 :].reshape(count, -1))
        rows_and_columns.append(lagged[:, first, second].reshape(count, -1))
    return jnp.concatenate(rows_and_columns, axis=1)


def grids(images: jax.Array) -> jax.Array:
    """Traces of blocks: (M, H, W, C) -> (M, 10 C).

    For the steps between neighboring rows, then columns: the flat share, and the log strength of periods 8, 4, 8/3 and
    2 relative to the mean, for any offset of the grid.
    """
    count, _, _, channels = images.shape
    waves = np.exp(-2j * np.pi * np.outer(np.arange(PERIOD), np.arange(1, PERIOD // 2 + 1)) / PERIOD)
    waves = waves.astype(np.complex64)
    rows_and_columns = []
    for axis in (1, 2):
        steps = jnp.abs(jnp.diff(images, axis=axis))
        flat = (steps < FLAT).mean(axis=(1, 2))
        profile = jnp.pad(steps.mean(axis=3 - axis), ((0, 0), (0, 1), (0, 0)))
        profile = profile.reshape(count, -1, PERIOD, channels).mean(axis=1)
        cosine, sine = (jnp.einsum("mpc,pk->mkc", profile, part) for part in (waves.real, waves.imag))
        # 1e-12 keeps the gradient of the square root finite at 0.
        strength = jnp.sqrt(jnp.square(cosine) + jnp.square(sine) + 1e-12)
        relative = jnp.log(strength / (profile.sum(axis=1)[:, None] + 1e-3) + 1e-3)
        rows_and_columns += [flat, relative.reshape(count, -1)]
    return jnp.concatenate(rows_and_columns, axis=1)


def histograms(images: jax.Array) -> jax.Array:
    """Statistics of the histogram over 256 levels: (M, H, W, C) -> (M, 37 C).

    For each channel: the log shares of 32 bins; the share of levels that occur; the log of the largest share; how much
    neighboring levels differ (few levels, or a comb from a stretched tone curve); the log shares of both ends.
    """
    count, height, width, channels = images.shape
    level = jnp.clip(jnp.round(images * (LEVELS - 1)), 0, LEVELS - 1).astype(jnp.int32)
    place = (level + LEVELS * jnp.arange(channels)[None, None, None, :]).reshape(count, -1)
    shares = jax.vmap(lambda at: jnp.zeros(channels * LEVELS).at[at].add(1.0))(place)
    shares = shares.reshape(count, channels, LEVELS) / (height * width)
    inner = shares[..., 1:-1]
    comb = jnp.abs(shares[..., 2:] + shares[..., :-2] - 2 * inner).sum(axis=-1) / (inner.sum(axis=-1) + 1e-6)
    parts = (
        jnp.log(shares.reshape(count, channels, 32, -1).sum(axis=-1) + 1e-3),
        (shares > 0).mean(axis=-1, keepdims=True),
        jnp.log(shares.max(axis=-1, keepdims=True) + 1e-4),
        comb[..., None],
        jnp.log(shares[..., :: LEVELS - 1] + 1e-4),
    )
    return jnp.concatenate(parts, axis=-1).reshape(count, -1)


def colorfulness(images: jax.Array) -> jax.Array:
    """Mean and deviation of max - min over the three colors, and the share of gray pixels: (M, H, W, 3) -> (M, 3)."""
    range_ = images.max(axis=-1) - images.min(axis=-1)
    mean = range_.mean(axis=(1, 2))
    deviation = jnp.sqrt(jnp.square(range_ - mean[:, None, None]).mean(axis=(1, 2)) + 1e-12)
    return jnp.stack([mean, deviation, (range_ < 0.02).mean(axis=(1, 2))], axis=1)


def high_pass(images: jax.Array) -> jax.Array:
    """Four times each pixel minus its four neighbors, edges repeated: (M, H, W, C) -> (M, H, W, C)."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return 4 * images - around


def cosines(size: int) -> np.ndarray:
    """The orthonormal DCT-II of a line as a matrix (size, size) float64, one frequency a row."""
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    return np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * np.where(k == 0, np.sqrt(1 / size), np.sqrt(2 / size))


def _blocks(images):
    """(M, H, W, C) -> (M, C, H / 4 * W / 4, 16)."""
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // 4, 4, width // 4, 4, channels)
    return blocks.transpose(0, 5, 1, 3, 2, 4).reshape(count, channels, -1, 16)


def _lagged(products):
    """Products (..., n, n) of positions i and j -> sums over each diagonal j - i = -16 to 16, (..., 33)."""
    n, outer = products.shape[-1], products.shape[:-2]
    # Position (i, j) in rows of width 2 n is position j - i in rows of width 2 n + 1, so diagonals become columns.
    wide = jnp.pad(products, [(0, 0)] * (products.ndim - 1) + [(0, n)]).reshape(*outer, 2 * n * n)
    wide = jnp.pad(wide, [(0, 0)] * len(outer) + [(0, n)])
    diagonals = wide.reshape(*outer, n, 2 * n + 1).sum(axis=-2)
    return jnp.concatenate([diagonals[..., -LAGS:], diagonals[..., : LAGS + 1]], axis=-1)
