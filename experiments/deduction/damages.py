"""Damaged files, as other programs than ours make them: what the drops learn beside the bank's types of the same names.

Each function takes a generator and a photograph (H, W, 3) uint8, and returns the damaged one and where the damage is,
(H, W) float32 in [0, 1].
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

STRIPE_SEEN = 14  # a stripe is seen over at least this part of a side
WRONG = 8.0  # a mean difference that makes wrong blocks visible, of 255


def wrong_blocks(rng, photo):
    """Blocks of moved content or wrong color: anywhere, on the grid of a codec, or in runs of rows."""
    height, width = photo.shape[:2]
    side = min(int(rng.choice([8, 16, 24, 32, 32, 48, 64])), height // 4)
    made, recolor = photo.copy(), rng.integers(3)
    order, added = rng.permutation([(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)])[0], rng.integers(-120, 121, 3)
    count, aligned, run = max(8, round(rng.uniform(0.03, 0.3) * height * width / side**2)), *(rng.random(2) < 0.4)
    y = x = 0
    for number in range(count):
        if run and number % 6 and x + 2 * side <= width:
            x += side
        else:
            y, x = rng.integers(0, height - side), rng.integers(0, width - side)
        y, x = (y // 8 * 8, x // 8 * 8) if aligned else (y, x)
        block = np.roll(photo[y : y + side, x : x + side], rng.integers(side // 4, side, 2), axis=(0, 1))[..., order]
        if recolor == 1:
            block = np.clip(block + added, 0, 255)
        elif recolor == 2 and rng.random() < 0.3:
            block = rng.integers(0, 256, 3)
        made[y : y + side, x : x + side] = block
    changed = np.abs(made.astype(np.int16) - photo).mean(axis=2).astype(np.float32)
    return made, (uniform_filter(changed, side) > WRONG).astype(np.float32)


def combing(rng, photo):
    """Odd rows aside, in the whole image or between two columns."""
    shift = int(rng.integers(4, 17)) * (1 if rng.random() < 0.5 else -1)
    made, area = photo.copy(), np.ones(photo.shape[:2], np.float32)
    made[1::2] = np.roll(made[1::2], shift, axis=1)
    if rng.random() < 0.4:
        start, end = np.sort(rng.integers(0, photo.shape[1], 2))
        end = max(end, start + photo.shape[1] // 4)
        area[:, :start] = area[:, end:] = 0
    return np.where(area[..., None] > 0, made, photo), area


def truncated(rng, photo):
    """A JPEG file of which the end is missing, as a decoder fills it: gray, or what was sent last."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=int(rng.integers(80, 96)))
    whole = np.asarray(Image.open(file).convert("RGB"))
    row = int(rng.uniform(0.2, 0.85) * photo.shape[0]) // 16 * 16
    column = int(rng.integers(photo.shape[1])) // 16 * 16
    area = np.zeros(photo.shape[:2], np.float32)
    area[row + 16 :] = area[row : row + 16, column:] = 1
    fill = ((128, 128, 128), (0, 135, 0), (0, 0, 0))[rng.integers(3)]
    return np.where(area[..., None] > 0, np.array(fill, np.uint8), whole), area


def stripe(rng, photo):
    """Rows or columns of one color, or of that of their neighbor. However thin it is, people see it around itself."""
    turned = photo if rng.random() < 0.5 else photo.swapaxes(0, 1)
    made, area = turned.copy(), np.zeros(turned.shape[:2], np.float32)
    for _ in range(1 if rng.random() < 0.6 else rng.integers(2, 5)):
        wide = max(2, round(rng.uniform(0.004, 0.04) * len(turned)))
        start = int(rng.integers(1, len(turned) - wide))
        around = max(0, len(turned) // STRIPE_SEEN - wide) // 2
        area[max(start - around, 0) : start + wide + around] = 1
        kind = rng.random()
        fill = turned[start - 1] if kind < 0.2 else rng.choice([0, 255], 3) if kind < 0.8 else rng.integers(0, 256, 3)
        made[start : start + wide] = fill
    return (made, area) if turned is photo else (made.swapaxes(0, 1), area.T)


DAMAGES: dict[str, Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "wrong_blocks": wrong_blocks,
    "interlace_combing": combing,
    "truncated_data": truncated,
    "dead_stripe": stripe,
}
DROPS: dict[str, float] = {"wrong_blocks": 0.65, "interlace_combing": 0.6, "truncated_data": 0.75, "dead_stripe": 0.65}
