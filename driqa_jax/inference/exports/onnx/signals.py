"""Emitters of the signal statistics: the counterparts of `driqa_jax.models.signal_statistics`, on (M, C, H, W)."""

import numpy as np

from driqa_jax.inference.exports.onnx.graph import Graph
from driqa_jax.models.signal_statistics import BLOCK, FLAT, LAGS, LEVELS, OPPONENT, PERIOD, cosines

COLORS = 3


def signal_statistics(g: Graph, pixels: str, tiles: str, side: int) -> str:
    """`signal_statistics` of square tiles: `pixels` (M, 3, side, side) uint8, `tiles` the same / 255 -> (M, 582)."""
    # As a convolution, the runtime would compute 16 channels.
    opponent = g.reshape(g("MatMul", OPPONENT, g.reshape(tiles, 0, COLORS, -1)), 0, COLORS, side, side)
    parts = (spectra(g, opponent, side), correlations(g, opponent, side), grids(g, opponent, side))
    return g.join([*parts, histograms(g, pixels, side), colorfulness(g, tiles)], 1)


def spectra(g: Graph, opponent: str, side: int) -> str:
    """`spectra`: the DCT is a convolution with a stride of one block."""
    bases = np.einsum("ui,vj->uvij", cosines(4), cosines(4)).reshape(16, 1, 4, 4)
    kernel = np.tile(bases, (COLORS, 1, 1, 1)).astype(np.float32)
    inner = g("Slice", opponent, [2, 2], [side - 2] * 2, [2, 3])
    both = [g("Conv", x, kernel, group=COLORS, strides=[4, 4]) for x in (opponent, inner)]
    coefficients = g.join([g.reshape(x, 0, COLORS * 16, -1) for x in both], 2)
    magnitude = g("Abs", coefficients)
    strength = g("Log", g("Add", g.mean(magnitude, 2), 1e-4))
    square = g("Log", g("Add", g.square_mean(coefficients, 2), 1e-7))
    sparsity = g("Sub", square, g("Add", strength, strength))
    return g.join([strength, sparsity, _share(g, magnitude, 0.002, 2)], 1)


def correlations(g: Graph, opponent: str, side: int) -> str:
    """`correlations` of the high-passed opponent colors."""
    images = high_pass(g, opponent, side)
    lags, width = np.arange(-LAGS, LAGS + 1), 2 * LAGS + 1
    offsets = np.arange(BLOCK)[None, :] - np.arange(BLOCK)[:, None]
    diagonals = (offsets.reshape(-1, 1) == lags).astype(np.float16)
    lines_of_a_block = side * side // BLOCK
    weight = (1 / (lines_of_a_block * (BLOCK - np.abs(lags)))).astype(np.float32)
    own = np.arange(COLORS) * (COLORS + 1)
    first, second = np.triu_indices(COLORS, 1)
    kept = [(own[:, None] * width + np.arange(LAGS + 1, width)).ravel()]
    kept += [((first * COLORS + second)[:, None] * width + np.arange(width)).ravel()]
    rows_and_columns = []
    for shape, order in (
        ((side, side // BLOCK, BLOCK), (0, 1, 4, 2, 3)),
        ((side // BLOCK, BLOCK, side), (0, 1, 3, 2, 4)),
    ):
        lines = g("Transpose", g.reshape(images, -1, COLORS, *shape), perm=order)
        lines = g.reshape(lines, 0, COLORS * BLOCK, -1)
        products = g("MatMul", lines, g("Transpose", lines, perm=(0, 2, 1)))
        products = g("Transpose", g.reshape(products, -1, COLORS, BLOCK, COLORS, BLOCK), perm=(0, 1, 3, 2, 4))
        sums = g("MatMul", g.reshape(products, 0, COLORS**2, BLOCK**2), g.cast(diagonals, np.float32))
        lagged = g.reshape(g("Mul", sums, weight), 0, -1)
        variance = g("Add", g("Gather", lagged, own * width + LAGS, axis=1), 1e-7)
        scale = g("Sqrt", g("Mul", g("Unsqueeze", variance, [2]), g("Unsqueeze", variance, [1])))
        normed = g("Div", g.reshape(lagged, 0, COLORS**2, width), g.reshape(scale, 0, COLORS**2, 1))
        rows_and_columns.append(g("Gather", g.reshape(normed, 0, -1), np.concatenate(kept), axis=1))
    return g.join(rows_and_columns, 1)


def high_pass(g: Graph, images: str, side: int) -> str:
    """`high_pass`. For three channels, the runtime computes slices faster than a convolution."""
    padded = g("Pad", images, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge")
    corners = ((0, 1), (2, 1), (1, 0), (1, 2))
    above, below, left, right = (g("Slice", padded, [y, x], [y + side, x + side], [2, 3]) for y, x in corners)
    return g("Sub", g("Mul", images, 4.0), g("Add", g("Add", above, below), g("Add", left, right)))


def grids(g: Graph, opponent: str, side: int) -> str:
    """`grids`."""
    angles = 2 * np.pi * np.outer(np.arange(PERIOD), np.arange(1, PERIOD // 2 + 1)) / PERIOD
    rows_and_columns = []
    for axis in (2, 3):
        steps = g("Abs", g("Sub", g.slice(opponent, axis, 1), g.slice(opponent, axis, 0, side - 1)))
        profile = g.reshape(g("Pad", g.mean(steps, 5 - axis), [0, 0, 0, 0, 0, 1]), 0, COLORS, -1, PERIOD)
        profile = g.mean(profile, 2)
        waves = [g("MatMul", profile, part.astype(np.float32)) for part in (np.cos(angles), np.sin(angles))]
        power = g("Add", *(g("Mul", wave, wave) for wave in waves))
        total = g("Add", g.sum(profile, 2, keep=True), 1e-3)
        relative = g("Log", g("Add", g("Div", g("Sqrt", g("Add", power, 1e-12)), total), 1e-3))
        rows_and_columns += [_share(g, steps, FLAT, 2, 3), g.reshape(g("Transpose", relative, perm=(0, 2, 1)), 0, -1)]
    return g.join(rows_and_columns, 1)


def histograms(g: Graph, pixels: str, side: int) -> str:
    """`histograms`, of the pixels themselves."""
    place = g("Add", g.cast(pixels, np.int32), LEVELS * np.arange(COLORS, dtype=np.int32)[:, None, None])
    place = g.reshape(place, 0, -1)
    # Int32 sums are faster than float32 ones.
    zeros = g("Mul", g.slice(place, 1, 0, 1), np.zeros((1, COLORS * LEVELS), np.int32))
    ones = g("Expand", np.ones((1, 1), np.int32), g("Shape", place))
    counts = g.cast(g("ScatterElements", zeros, place, ones, axis=1, reduction="add"), np.float32)
    shares = g("Mul", g.reshape(counts, 0, COLORS, LEVELS), 1 / side**2)
    inner = g.slice(shares, 2, 1, LEVELS - 1)
    around = g("Add", g.slice(shares, 2, 2), g.slice(shares, 2, 0, LEVELS - 2))
    comb = g.sum(g("Abs", g("Sub", around, g("Add", inner, inner))), 2, keep=True)
    comb = g("Div", comb, g("Add", g.sum(inner, 2, keep=True), 1e-6))
    bins = g.sum(g.reshape(shares, 0, COLORS, 32, LEVELS // 32), 3)
    largest = g("ReduceMax", shares, [2])
    occurs = g("Greater", shares, 0.0)
    parts = (
        g("Log", g("Add", bins, 1e-3)),
        g.mean(g.cast(occurs, np.float32), 2, keep=True),
        g("Log", g("Add", largest, 1e-4)),
        comb,
        g("Log", g("Add", g("Gather", shares, [0, LEVELS - 1], axis=2), 1e-4)),
    )
    return g.reshape(g.join(list(parts), 2), 0, -1)


def colorfulness(g: Graph, tiles: str) -> str:
    """`colorfulness`."""
    colors = [g.slice(tiles, 1, i, i + 1) for i in range(COLORS)]
    spread = g.reshape(g("Sub", g("Max", *colors), g("Min", *colors)), 0, -1)
    mean = g.mean(spread, 1, keep=True)
    variance = g.square_mean(g("Sub", spread, mean), 1, keep=True)
    deviation = g("Sqrt", g("Add", variance, 1e-12))
    share = g("Unsqueeze", _share(g, spread, 0.02, 1), [1])
    return g.join([mean, deviation, share], 1)


def _share(g: Graph, x: str, limit: float, *axes: int) -> str:
    """The share of values below `limit` over `axes`."""
    return g.mean(g.cast(g("Less", x, limit), np.float32), *axes)
