"""Damaged files against plain numpy loops, given the same draws."""

import functools

import jax
import numpy as np
import pytest
from skimage import data

from driqa_jax.degradations import apply
from driqa_jax.degradations.damage import comb_scene, tint, wrong_runs

once = jax.jit(apply, static_argnums=0)
SIZES = ((97, 130), (64, 64), (33, 100))


@functools.cache
def photo(height: int, width: int) -> np.ndarray:
    """A crop of a photograph, float32 (height, width, 3)."""
    return data.coffee()[100 : 100 + height, 200 : 200 + width].astype(np.float32) / 255


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
def test_truncated_data_loses_the_last_blocks(size, severity):
    height, width = size
    rows, columns = -(-height // 16), -(-width // 16)
    kept = max(int(np.floor(np.float32(1 - np.float32(0.8) * np.float32(severity)) * rows * columns)), columns)
    kinds = set()
    for seed in range(8):
        ours = np.asarray(once("truncated_data", jax.random.key(seed), photo(*size), severity))
        kind = int(jax.random.randint(jax.random.key(seed), (), 0, 3))
        kinds.add(kind)
        expected = photo(*size).copy()
        for index in range(kept, rows * columns):
            top, left = 16 * (index // columns), 16 * (index % columns)
            block = expected[top : top + 16, left : left + 16]
            # Blocks come in scan order, so a repeated one repeats the block above it.
            above = expected[top - 16 : top - 16 + len(block), left : left + 16]
            block[:] = ([128 / 255] * 3, [0, 135 / 255, 0], above)[kind]
        np.testing.assert_array_equal(ours, expected.astype(np.float32))
    assert kinds == {0, 1, 2}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("severity", [0.2, 0.6, 1.0])
def test_wrong_blocks_are_runs_along_rows(size, severity):
    height, width = size
    rows, columns = -(-height // 16), -(-width // 16)
    key = jax.random.key(4)
    before = photo(*size)
    draws = (np.asarray(part) for part in wrong_runs(key, rows))
    expected, hits = before.copy(), 0
    for row, (first, start, down, right, moves, hue) in enumerate(zip(*draws, strict=True)):
        length = int(np.ceil(0.8 * columns * np.clip(2 * (severity - first), 0, 1) - 1e-4))
        offset = 0.45 * np.cos(hue + 2 * np.pi / 3 * np.arange(3)) * (0.5 if moves else 1)
        for step in range(length):
            left = (int(start * columns) + step) % columns * 16
            hits += 1
            for y in range(16 * row, min(16 * row + 16, height)):
                for x in range(left, min(left + 16, width)):
                    there = before[y, x]
                    if moves:
                        there = before[
                            (y + 16 * int(1 + down * (rows - 1))) % height, (x + 16 * int(right * columns)) % width
                        ]
                    expected[y, x] = np.clip(there + offset, 0, 1)
    assert 0 < hits < rows * columns
    np.testing.assert_allclose(once("wrong_blocks", key, before, severity), expected, atol=1e-6)


def test_a_tint_changes_black_and_white():
    offsets = np.asarray(tint(np.linspace(0, 2 * np.pi, 60, dtype=np.float32)))
    np.testing.assert_allclose(offsets.sum(axis=1), 0, atol=1e-6)
    assert np.abs(offsets).max() <= 0.45 + 1e-6 and offsets.max(axis=1).min() > 0.2 and offsets.min(axis=1).max() < -0.2


def test_interlace_combing_is_numpys_interpolation_of_odd_rows():
    before = photo(97, 130)
    for seed in range(3):
        key = jax.random.key(seed)
        shift = 6 * 0.7 * np.asarray(comb_scene(key, (97, 130)), np.float64)
        ours = np.asarray(once("interlace_combing", key, before, 0.7))
        np.testing.assert_allclose(ours[::2], before[::2], atol=1e-6)
        for row in range(1, 97, 2):
            for channel in range(3):
                line = np.interp(np.arange(130) + shift[row], np.arange(130), before[row, :, channel])
                np.testing.assert_allclose(ours[row, :, channel], line, atol=1e-4)


def test_a_region_moves_in_one_drawn_direction():
    scenes = np.stack([np.asarray(comb_scene(jax.random.key(seed), (96, 128))) for seed in range(12)])
    full = scenes[:, 48, 64]
    assert set(full) == {-1.0, 1.0} and np.abs(scenes).max() == 1
    assert (np.abs(scenes[:, [0, 0, -1, -1], [0, -1, 0, -1]]).min(axis=1) == 0).all()
    shares = (scenes != 0).mean(axis=(1, 2))
    assert shares.min() > 0.35 and shares.max() < 1 and (scenes * full[:, None, None] >= 0).all()


@pytest.mark.parametrize("severity", [0.05, 0.5, 1.0])
def test_dead_stripe_is_constant_or_offset(severity):
    before, seen = photo(97, 130), set()
    flat = 0.0 if before.mean() > 0.5 else 1.0
    for seed in range(12):
        key = jax.random.key(seed)
        down, constant, place, hue = np.asarray(jax.random.uniform(key, (4,)))
        rows = down < 0.5
        side = 97 if rows else 130
        start, count = int(np.floor((0.1 + 0.65 * place) * side)), int(np.ceil(0.1 * side * severity - 1e-4))
        expected = before.copy()
        stripe = expected[start : start + count] if rows else expected[:, start : start + count]
        offset = 0.45 * np.cos(2 * np.pi * (hue + np.arange(3) / 3))
        stripe[:] = flat if constant < 0.5 else np.clip(stripe + offset, 0, 1)
        np.testing.assert_allclose(once("dead_stripe", key, before, severity), expected, atol=1e-6)
        assert start + count <= 0.9 * side
        seen.add((bool(rows), bool(constant < 0.5)))
    assert len(seen) == 4
    white = once("dead_stripe", jax.random.key(0), 1 - before, 1.0)
    assert np.abs(np.asarray(white) - (1 - before)).max() > 0.3


@pytest.mark.parametrize("name", ["truncated_data", "wrong_blocks", "dead_stripe"])
def test_what_is_hit_stays_hit(name):
    """For a fixed key a pixel hit at one severity is hit at each higher one."""
    before = photo(97, 130)
    for seed in range(4):
        masks = [
            (np.asarray(once(name, jax.random.key(seed), before, severity)) != before).any(axis=-1)
            for severity in (0.1, 0.4, 0.7, 1.0)
        ]
        for less, more in zip(masks, masks[1:], strict=False):
            # A repeated or moved pixel may by chance equal its original.
            assert (less & ~more).mean() < 0.005 and more.sum() > less.sum()
