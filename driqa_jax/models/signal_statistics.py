"""What a degradation leaves in the signal, as numbers: fixed statistics of a picture, with nothing to learn.

Blur, noise, compression and the rest change how the pixels are distributed, not what they show. Forensics and the
older measures of quality (rich models, Fridrich and Kodovsky, 2012; BRISQUE, Mittal et al., 2012; blockiness, Wang et
al., 2002) read them off directly, where a network has to find them by training on a hundred times as many pictures.
All of these are means over the picture, so that its size, and where a tile was cut from it, change little.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Luma, then the two colour differences.
OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
BLOCK, LAGS, PERIOD, LEVELS = 32, 16, 8, 256
FLAT = 1e-3  # a step between neighbours below this, a quarter of one of 256 levels, is none


def signal_statistics(tiles: jax.Array) -> jax.Array:
    """All statistics of each tile.

    Args:
      tiles: (M, H, W, 3) float in [0, 1], sides divisible by 32.

    Returns:
      (M, 582) float32, of the most different scales (see `Standardize`): spectra, correlations, grids, histograms and
      colourfulness. The shares and the histogram have no gradient; the rest has.
    """
    opponent = tiles @ OPPONENT.T
    parts = (
        spectra(opponent),
        correlations(high_pass(tiles) @ OPPONENT.T),
        grids(opponent),
        histograms(tiles),
        colorfulness(tiles),
    )
    return jnp.concatenate(parts, axis=1)


def spectra(images: jax.Array) -> jax.Array:
    """How strong each frequency is, and how sparse: (M, H, W, C) -> (M, 48 C).

    Of every coefficient of a 4x4 DCT: the logarithm of its mean magnitude; that of its mean square against it, larger
    where few blocks hold all of it; the share of blocks where it is nearly nothing. Blocks lie on two grids.
    """
    count, _, _, channels = images.shape
    found = jnp.concatenate([_blocks(images), _blocks(images[:, 2:-2, 2:-2])], axis=2) @ _dct_4x4()
    magnitude = jnp.abs(found)
    strength = jnp.log(magnitude.mean(axis=2) + 1e-4)
    sparsity = jnp.log(jnp.square(found).mean(axis=2) + 1e-7) - 2 * strength
    nothing = (magnitude < 0.002).mean(axis=2)
    return jnp.stack([strength, sparsity, nothing], axis=1).reshape(count, 3 * 16 * channels)


def correlations(images: jax.Array) -> jax.Array:
    """How alike neighbours are: (M, H, W, C) -> (M, 2 * (16 C + 33 C (C - 1) / 2)).

    Correlations along rows, then along columns: of every channel with itself at lags 1 to 16, of every two channels at
    lags -16 to 16. White noise has none, blur a slow decay, copies and shifts of a channel a peak of their own.
    """
    count, _, _, channels = images.shape
    pairs = BLOCK - np.abs(np.arange(-LAGS, LAGS + 1))
    own = np.arange(channels)
    first, second = np.triu_indices(channels, 1)
    found = []
    for along in (images, images.transpose(0, 2, 1, 3)):
        # Every lag within a block of 32 pixels comes out of one matrix product.
        lines = along.reshape(count, -1, BLOCK, channels).transpose(0, 1, 3, 2).reshape(count, -1, channels * BLOCK)
        products = jnp.einsum("mna,mnb->mab", lines, lines) / lines.shape[1]
        products = products.reshape(count, channels, BLOCK, channels, BLOCK).transpose(0, 1, 3, 2, 4)
        lagged = _lagged(products) / pairs[None, None, None, :]
        variance = lagged[:, own, own, LAGS] + 1e-7
        lagged = lagged / jnp.sqrt(variance[:, :, None] * variance[:, None, :])[..., None]
        found.append(lagged[:, own, own, LAGS + 1 :].reshape(count, -1))
        found.append(lagged[:, first, second].reshape(count, -1))
    return jnp.concatenate(found, axis=1)


def grids(images: jax.Array) -> jax.Array:
    """Traces of blocks: (M, H, W, C) -> (M, 10 C).

    Of the steps between neighbouring rows, then columns: the share that is flat; the logarithm of the strength of
    periods 8, 4, 8/3 and 2, against the mean, wherever the grid begins.
    """
    count, _, _, channels = images.shape
    waves = np.exp(-2j * np.pi * np.outer(np.arange(PERIOD), np.arange(1, PERIOD // 2 + 1)) / PERIOD)
    waves = waves.astype(np.complex64)
    found = []
    for axis in (1, 2):
        steps = jnp.abs(jnp.diff(images, axis=axis))
        flat = (steps < FLAT).mean(axis=(1, 2))
        profile = jnp.pad(steps.mean(axis=3 - axis), ((0, 0), (0, 1), (0, 0)))
        profile = profile.reshape(count, -1, PERIOD, channels).mean(axis=1)
        cosine, sine = (jnp.einsum("mpc,pk->mkc", profile, part) for part in (waves.real, waves.imag))
        # The square root has no slope at 0.
        strength = jnp.sqrt(jnp.square(cosine) + jnp.square(sine) + 1e-12)
        found += [flat, jnp.log(strength / (profile.sum(axis=1)[:, None] + 1e-3) + 1e-3).reshape(count, -1)]
    return jnp.concatenate(found, axis=1)


def histograms(images: jax.Array) -> jax.Array:
    """Which of 256 levels occur: (M, H, W, C) -> (M, 37 C).

    Of every channel: the logarithms of 32 shares; the share of levels that occur, the largest one, how much neighbours
    differ (few levels, or combs left by a stretched curve), and the two ends.
    """
    count, height, width, channels = images.shape
    level = jnp.clip(jnp.round(images * (LEVELS - 1)), 0, LEVELS - 1).astype(jnp.int32)
    place = (level + LEVELS * jnp.arange(channels)[None, None, None, :]).reshape(count, -1)
    shares = jax.vmap(lambda at: jnp.zeros(channels * LEVELS).at[at].add(1.0))(place)
    shares = shares.reshape(count, channels, LEVELS) / (height * width)
    inner = shares[..., 1:-1]
    comb = jnp.abs(shares[..., 2:] + shares[..., :-2] - 2 * inner).sum(axis=-1) / (inner.sum(axis=-1) + 1e-6)
    found = (
        jnp.log(shares.reshape(count, channels, 32, -1).sum(axis=-1) + 1e-3),
        (shares > 0).mean(axis=-1, keepdims=True),
        jnp.log(shares.max(axis=-1, keepdims=True) + 1e-4),
        comb[..., None],
        jnp.log(shares[..., :: LEVELS - 1] + 1e-4),
    )
    return jnp.concatenate(found, axis=-1).reshape(count, -1)


def colorfulness(images: jax.Array) -> jax.Array:
    """Mean and deviation of the largest less the smallest of the three colours, share of grey pixels: -> (M, 3)."""
    range_ = images.max(axis=-1) - images.min(axis=-1)
    mean = range_.mean(axis=(1, 2))
    deviation = jnp.sqrt(jnp.square(range_ - mean[:, None, None]).mean(axis=(1, 2)) + 1e-12)
    return jnp.stack([mean, deviation, (range_ < 0.02).mean(axis=(1, 2))], axis=1)


def high_pass(images: jax.Array) -> jax.Array:
    """Four times each pixel less its four neighbours, edges repeated: (M, H, W, C) -> (M, H, W, C)."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return 4 * images - around


def _dct_4x4():
    """(16, 16), from the pixels of a block to the coefficients of its orthonormal DCT."""
    k, n = np.arange(4)[:, None], np.arange(4)[None, :]
    line = np.cos(np.pi * (2 * n + 1) * k / 8) * np.where(k == 0, np.sqrt(1 / 4), np.sqrt(2 / 4))
    return np.einsum("ui,vj->ijuv", line, line).reshape(16, 16).astype(np.float32)


def _blocks(images):
    """(M, H, W, C) -> (M, C, H / 4 * W / 4, 16)."""
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // 4, 4, width // 4, 4, channels)
    return blocks.transpose(0, 5, 1, 3, 2, 4).reshape(count, channels, -1, 16)


def _lagged(products):
    """(..., n, n), the products of places i and j, to their sums over j - i = -16 to 16: (..., 33)."""
    n, outer = products.shape[-1], products.shape[:-2]
    # Place (i, j) of rows 2 n wide is place j - i of rows 2 n + 1 wide: each diagonal becomes a column.
    wide = jnp.pad(products, [(0, 0)] * (products.ndim - 1) + [(0, n)]).reshape(*outer, 2 * n * n)
    wide = jnp.pad(wide, [(0, 0)] * len(outer) + [(0, n)])
    diagonals = wide.reshape(*outer, n, 2 * n + 1).sum(axis=-2)
    return jnp.concatenate([diagonals[..., -LAGS:], diagonals[..., : LAGS + 1]], axis=-1)
