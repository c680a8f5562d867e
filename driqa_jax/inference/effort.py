"""View rules per effort, derived from the rule that the model was trained with."""

import dataclasses
from typing import NamedTuple

from driqa_jax.data.views import STRIDE, ViewRule

EFFORTS = ("fast", "default", "accurate")
FAST_SCALE = 0.84  # 384 becomes 320
ACCURATE_TILES = 9


class Look(NamedTuple):
    """A view rule, and whether predictions are averaged over the image and its mirror image."""

    rule: ViewRule
    mirror: bool = False


def look(rule: ViewRule, effort: str) -> Look:
    """The view rule of an effort.

    - `default`: the model's rule.
    - `fast`: the whole image at 0.84 of its size.
    - `accurate`: nine tiles, averaged with the mirror image.

    Each adds 4:3 canvases, which change no score and save a fifth of the work on 4:3 images. Raises ValueError for
    another effort.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    if effort == "fast":
        small = dataclasses.replace(
            rule,
            short=_scaled(rule.short),
            long=_scaled(rule.long),
            canvases=tuple((_scaled(height), _scaled(width)) for height, width in rule.canvases),
            tile=min(rule.tile, _scaled(rule.short)) if rule.kind == "crop" else rule.tile,
        )
        return Look(_with_4_3(small))
    if effort == "accurate":
        # A crop has one tile by definition.
        tiles = rule.tiles if rule.kind == "crop" else max(rule.tiles, ACCURATE_TILES)
        return Look(_with_4_3(dataclasses.replace(rule, tiles=tiles)), mirror=True)
    return Look(_with_4_3(rule))


def _scaled(side: int) -> int:
    return max(round(side * FAST_SCALE / STRIDE), 1) * STRIDE


def _with_4_3(rule: ViewRule) -> ViewRule:
    height, width = rule.size_in(3 * rule.long, 4 * rule.long)
    more = [canvas for canvas in ((height, width), (width, height)) if canvas not in rule.canvases]
    # Larger canvases would cost a compilation and save nothing.
    larger = max(h * w for h, w in rule.canvases)
    return dataclasses.replace(rule, canvases=(*rule.canvases, *(c for c in more if c[0] * c[1] < larger)))
