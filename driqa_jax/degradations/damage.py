"""Damaged files and broken readouts: missing data, wrong blocks, interlaced fields, dead stripes."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.entry import degradation

BLOCK = 16  # px: the unit of a 4:2:0 JPEG
LOST_SHARE = 0.8  # of the blocks at severity 1; ours
GRAY, GREEN = (128 / 255,) * 3, (0.0, 135 / 255, 0.0)  # YCbCr 128, 128, 128 and 0, 0, 0: what decoders leave
RUN_SHARE = 0.8  # longest run of wrong blocks, of the row; ours
RUN_GROWTH = 2.0  # rows per unit of severity; ours
TINT = 0.45  # of full scale; ours
COMB_SHARE, COMB_LEAST = 0.03, 6.0  # shift at severity 1: of the shorter side, and at least px; ours
STRIPE_SHARE = 0.1  # of the side at severity 1; ours


def tint(angle: jax.Array) -> jax.Array:
    """Offsets (..., 3) of a hue `angle` in radians, within +-0.45 and of sum 0, so black and white both change."""
    turns = 2.0 * jnp.pi / 3.0 * jnp.arange(3, dtype=jnp.float32)
    return TINT * jnp.cos(angle[..., None] + turns.reshape((1,) * jnp.ndim(angle) + (3,)))


def _blocks(size: tuple[int, int]) -> tuple[jax.Array, jax.Array, int, int]:
    """Row (H, 1) and column (1, W) of each pixel's block, int32, and the number of rows and columns of blocks."""
    row, column = (jnp.arange(n) // BLOCK for n in size)
    return row[:, None], column[None, :], -(-size[0] // BLOCK), -(-size[1] // BLOCK)


@degradation(41, "damage")
def truncated_data(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """A file that ends early: a share 0.8 * severity of the 16x16 blocks, in scan order, is missing at the end.

    The key draws what replaces them: gray, the green of YCbCr zero, or the last decoded blocks above, repeated. At
    least one row of blocks stays. Range: ours; not a KADID-10k type.
    """
    height, width, _ = image.shape
    row, column, rows, columns = _blocks((height, width))
    kept = jnp.maximum(jnp.floor((1.0 - LOST_SHARE * severity) * rows * columns), columns).astype(jnp.int32)
    lost = row * columns + column >= kept
    last = (kept - 1 - column) // columns  # the last row of blocks that holds this column
    # The lowest row of blocks may be cut by the border, but it is never repeated.
    source = jnp.where(lost, BLOCK * last + jnp.arange(height)[:, None] % BLOCK, jnp.arange(height)[:, None])
    repeated = jnp.take_along_axis(image, source[..., None], axis=0)
    kind = jax.random.randint(key, (), 0, 3)
    flat = jnp.asarray([GRAY, GREEN, GRAY], jnp.float32)[kind][None, None, :]
    return jnp.where(lost[..., None], jnp.where(kind == 2, repeated, flat), image)


def wrong_runs(key: jax.Array, rows: int) -> tuple[jax.Array, ...]:
    """What `wrong_blocks` draws for each row of blocks, (rows,) float32 each: the severity from which the row is hit
    (evenly spread over [0, 1)), where the run starts and how far its content moves down and right (in [0, 1) of
    the image), whether it moves (0 or 1), and the hue of its offset in radians."""
    k_order, k_rest = jax.random.split(key)
    first = jax.random.permutation(k_order, rows) / rows
    start, down, right, moves, hue = jax.random.uniform(k_rest, (5, rows))
    return first, start, down, right, jnp.round(moves), 2.0 * jnp.pi * hue


@degradation(42, "damage")
def wrong_blocks(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Bit errors in a JPEG file: runs of 16x16 blocks with an offset of color, half of them with content of elsewhere.

    Rows of blocks are hit one after another as severity grows, and a hit row's run grows to at most 0.8 of the row
    (0.5 of severity later). The offset is +-0.45 of full scale at most, see `tint`; half of it where the content moves.
    The key draws rows, places and offsets (`wrong_runs`). Range: ours; not a KADID-10k type.
    """
    height, width, channels = image.shape
    row, column, rows, columns = _blocks((height, width))
    first, start, down, right, moves, hue = (each[row] for each in wrong_runs(key, rows))
    length = jnp.ceil(RUN_SHARE * columns * jnp.clip(RUN_GROWTH * (severity - first), 0.0, 1.0) - 1e-4)
    # A run that reaches the right end continues at the left, so that every row has room for it.
    hit = (column - jnp.floor(start * columns).astype(jnp.int32)) % columns < length
    y = (jnp.arange(height)[:, None] + BLOCK * jnp.floor(1 + down * (rows - 1)).astype(jnp.int32)) % height
    x = (jnp.arange(width)[None, :] + BLOCK * jnp.floor(right * columns).astype(jnp.int32)) % width
    elsewhere = image.reshape(height * width, channels).at[y * width + x].get(mode="promise_in_bounds")
    wrong = jnp.where(moves[..., None] > 0, elsewhere, image) + tint(hue) * (1.0 - 0.5 * moves[..., None])
    return jnp.where(hit[..., None], jnp.clip(wrong, 0.0, 1.0), image)


def comb_scene(key: jax.Array, size: tuple[int, int]) -> jax.Array:
    """What `interlace_combing` draws: the signed share of the full shift, (H, W) float32 in [-1, 1], of one sign.

    An ellipse with a soft edge moves, the rest does not.
    """
    k_center, k_axes, k_sign = jax.random.split(key, 3)
    center = jax.random.uniform(k_center, (2,), minval=0.35, maxval=0.65)
    axes = jax.random.uniform(k_axes, (2,), minval=0.4, maxval=0.6)
    y, x = ((jnp.arange(n) + 0.5) / n for n in size)
    distance = jnp.hypot((y[:, None] - center[0]) / axes[0], (x[None, :] - center[1]) / axes[1])
    return jnp.where(jax.random.bernoulli(k_sign), 1.0, -1.0) * jnp.clip((1.0 - distance) / 0.25, 0.0, 1.0)


@degradation(43, "damage")
def interlace_combing(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Interlaced video of a moving thing: within a region, odd rows are read from up to 3 % of the shorter side aside.

    At least 6 px at severity 1, by linear interpolation. The key draws region and direction (`comb_scene`).
    Range: ours; not a KADID-10k type.
    """
    height, width, _ = image.shape
    most = max(COMB_SHARE * min(height, width), COMB_LEAST)
    odd = (jnp.arange(height) % 2)[:, None]
    x = jnp.arange(width)[None, :] + odd * most * severity * comb_scene(key, (height, width))
    x = jnp.clip(x, 0.0, width - 1.0)
    left = jnp.minimum(jnp.floor(x), width - 2.0)
    index = left.astype(jnp.int32)[..., None]
    near, far = (jnp.take_along_axis(image, index + step, axis=1) for step in (0, 1))
    return near + (x - left)[..., None] * (far - near)


@degradation(44, "damage")
def dead_stripe(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """A stripe of rows or columns, 0.1 * severity of the side wide, that is constant or has a heavy offset of color.

    The constant is black in a bright image and white in a dark one. The offset is that of `tint`. The key draws the
    direction, the place and the kind. Range: ours; not a KADID-10k type.
    """
    height, width, _ = image.shape
    down, constant, place, hue = jax.random.uniform(key, (4,))
    sides = jnp.asarray([height, width], jnp.float32)
    side = jnp.where(down < 0.5, sides[0], sides[1])
    index = jnp.where(down < 0.5, jnp.arange(height)[:, None], jnp.arange(width)[None, :])
    start = jnp.floor((0.1 + 0.65 * place) * side)
    inside = (index >= start) & (index < start + jnp.ceil(STRIPE_SHARE * side * severity - 1e-4))
    flat = jnp.where(image.mean() > 0.5, 0.0, 1.0)
    wrong = jnp.where(constant < 0.5, flat, jnp.clip(image + tint(2.0 * jnp.pi * hue)[None, None, :], 0.0, 1.0))
    return jnp.where(inside[..., None], wrong, image)
