"""Displaced and covered pixels: jitter, misplaced patches, color blocks."""

import jax
import jax.numpy as jnp
from jax import lax

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.noise import normal

JITTER_SIGMA = 5**0.5  # px; KADID-10k level 5: five passes of 1 px
PATCH = 16  # px, KADID-10k
PATCH_REACH = 8  # px, KADID-10k
PATCH_DENSITY = 200 / (512 * 384)  # per px; twice KADID-10k's level 5, ours
BLOCKS = 10  # KADID-10k level 5
BLOCK_SHARE = 12  # KADID-10k: 32 px of 384


@degradation(18, "spatial", kadid_levels=severities((0.05, 0.1, 0.2, 0.5, 1), 1.0))
def jitter(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Read every pixel (linear interpolation) at a random displacement, normal with sigma 2.24 * severity px.

    Range: KADID-10k #19 has five passes with sigma 0.05, 0.1, 0.2, 0.5, 1 px; this is one pass of the same variance.
    """
    height, width, channels = image.shape
    moves = JITTER_SIGMA * severity * normal(key, (2, height, width))
    y = jnp.clip(jnp.arange(height, dtype=jnp.float32)[:, None] + moves[0], 0.0, height - 1.0)
    x = jnp.clip(jnp.arange(width, dtype=jnp.float32)[None, :] + moves[1], 0.0, width - 1.0)
    row = jnp.minimum(jnp.floor(y), height - 2.0)
    column = jnp.minimum(jnp.floor(x), width - 2.0)
    down, right = (y - row)[..., None], (x - column)[..., None]
    index = (row * width + column).astype(jnp.int32)
    pixels = image.reshape(height * width, channels)
    corner = [pixels.at[index + step].get(mode="promise_in_bounds") for step in (0, 1, width, width + 1)]
    upper = corner[0] + right * (corner[1] - corner[0])
    lower = corner[2] + right * (corner[3] - corner[2])
    return jnp.clip(upper + down * (lower - upper), 0.0, 1.0)


def _count(severity: jax.Array, most: int) -> jax.Array:
    """How many of `most` items a severity shows: none at 0, at least one above 0."""
    return jnp.ceil(jnp.asarray(severity, jnp.float32) * most - 1e-4)


@degradation(19, "spatial", ordered=False, kadid_levels=severities((20, 40, 60, 80, 100), PATCH_DENSITY * 512 * 384))
def non_eccentricity_patch(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Copy 16x16 patches up to 8 px away; their number grows with the severity and with the image area.

    Range: KADID-10k #20 has 20, 40, 60, 80, 100 patches in 512x384; twice that density is ours.
    """
    height, width, _ = image.shape
    most = max(1, round(PATCH_DENSITY * height * width))
    k_place, k_move = jax.random.split(key)
    room = jnp.asarray([height - PATCH - 2 * PATCH_REACH + 1, width - PATCH - 2 * PATCH_REACH + 1])
    room = room.astype(jnp.float32)[None, :]
    places = PATCH_REACH + jnp.floor(jax.random.uniform(k_place, (most, 2)) * room).astype(jnp.int32)
    moves = jax.random.randint(k_move, (most, 2), -PATCH_REACH, PATCH_REACH + 1)
    count = _count(severity, most)

    def copy(index: int, out: jax.Array) -> jax.Array:
        (row, column), (down, right) = places[index], moves[index]
        shown = index < count
        down, right = jnp.where(shown, down, 0), jnp.where(shown, right, 0)
        square = lax.dynamic_slice(out, (row, column, 0), (PATCH, PATCH, 3))
        return lax.dynamic_update_slice(out, square, (row + down, column + right, 0))

    return lax.fori_loop(0, most, copy, image)


@degradation(22, "spatial", ordered=False, kadid_levels=severities((2, 4, 6, 8, 10), BLOCKS))
def color_block(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Cover up to 10 squares (KADID-10k #23), each a twelfth of the shorter side wide, with one random color each."""
    height, width, _ = image.shape
    side = max(1, round(min(height, width) / BLOCK_SHARE))
    k_place, k_color = jax.random.split(key)
    room = jnp.asarray([height - side + 1, width - side + 1], jnp.float32)[None, :]
    places = jnp.floor(jax.random.uniform(k_place, (BLOCKS, 2)) * room)
    colors = jax.random.uniform(k_color, (BLOCKS, 3))
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    count = _count(severity, BLOCKS)
    for index in range(BLOCKS):
        y, x = row - places[index, 0], column - places[index, 1]
        inside = (y >= 0) & (y < side) & (x >= 0) & (x < side) & (index < count)
        image = jnp.where(inside[..., None], colors[index][None, None, :], image)
    return image
